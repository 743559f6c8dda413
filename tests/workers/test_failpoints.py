"""Failpoints fire where and when they are set to, and cost nothing otherwise."""

import errno
import signal
import subprocess
import sys
import timeit

import pytest

from workers import failpoints
from workers.failpoints import FaultError, fault


@pytest.fixture(autouse=True)
def _none_passed_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    failpoints._passed.clear()


def test_a_point_strikes_at_its_nth_passing_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "here:2:ENOSPC")
    fault("here")
    fault("there")
    with pytest.raises(OSError, match="No space left") as raised:
        fault("here")
    assert raised.value.errno == errno.ENOSPC
    fault("here")


def test_a_kill_leaves_no_time_for_anything() -> None:
    code = (
        "import os; os.environ['ARCHSCOUT_FAULT'] = 'p.q:1:kill'\n"
        "from workers.failpoints import fault\n"
        "try: fault('p.q')\nfinally: print('last words')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""


@pytest.mark.parametrize("text", ["here", "here:x:kill", "here:1:boom", ":1:kill"])
def test_a_fault_that_is_none_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, text)
    with pytest.raises(FaultError, match="point:nth:kind"):
        fault("here")


def test_a_point_costs_next_to_nothing_when_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(failpoints.VARIABLE, raising=False)
    best = min(timeit.repeat(lambda: fault("here"), number=10_000, repeat=5)) / 10_000
    assert best < 20e-6  # a commit takes a hundred times that; the limit bears a busy machine
