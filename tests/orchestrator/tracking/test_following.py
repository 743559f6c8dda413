"""How a projection is followed: what is said to the driver, and how often files are uploaded."""

import subprocess
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.exceptions import MlflowException, RestException

from orchestrator.tracking import projector
from orchestrator.tracking.process import ProjectorProcess
from orchestrator.tracking.projector import ProjectionLoop
from orchestrator.tracking.refusals import reason

DAY_S = 86_400


class DriverChannel:
    """A driver that leaves after some time of a clock of its own."""

    def __init__(self, lasts_s: float, drain_at_s: float) -> None:
        self.now = 0.0
        self.answered_at: list[float] = []
        self.drain = False
        self._lasts_s = lasts_s
        self._drain_at_s = drain_at_s

    @property
    def ended(self) -> bool:
        return self.now >= self._lasts_s

    def wait(self, seconds: float) -> None:
        before, self.now = self.now, self.now + max(seconds, 0.01)
        self.drain = self.drain or before < self._drain_at_s <= self.now


class Projection:
    """Always has news; fails as scripted, by the time at which it is asked."""

    def __init__(self, orders: DriverChannel, outages: Sequence[tuple[float, float]] = ()) -> None:
        self.shown = 0
        self.has_news_to_draw = True
        self.done: list[tuple[bool, bool, bool]] = []
        self.missing = ""
        self._orders = orders
        self._outages = outages

    def step(self) -> int:
        if any(start <= self._orders.now < end for start, end in self._outages):
            raise MlflowException("token s3cr3t is refused by http://me:s3cr3t@host")
        self.shown += not self._orders.drain
        return int(not self._orders.drain)

    def summarise(self, *, plots: bool, table: bool = True, final: bool = False) -> None:
        self.done.append((plots, table, final))

    def lacking(self) -> str:
        return self.missing

    def left(self) -> int:
        return 0

    def last_event(self) -> int:
        return self.shown

    def commit_cursor(self) -> None:
        """Nothing is kept."""


def follow(
    monkeypatch: pytest.MonkeyPatch, orders: DriverChannel, projection: Projection
) -> list[str]:
    clock = SimpleNamespace(monotonic=lambda: orders.now, sleep=orders.wait)
    monkeypatch.setattr(projector, "time", clock)
    said: list[str] = []
    fakes: Any = (projection, orders)

    def answer(line: str) -> None:
        said.append(line)
        orders.answered_at.append(orders.now)

    ProjectionLoop(*fakes, answer, lambda text: text.replace("s3cr3t", "***")).run()
    return said


def test_files_are_uploaded_ever_more_seldom_while_the_search_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = DriverChannel(DAY_S, drain_at_s=DAY_S - 10)
    projection = Projection(orders)
    assert follow(monkeypatch, orders, projection) == ["drained"]
    notes = [plots for plots, table, final in projection.done if not final]
    plots = sum(plots for plots, table, final in projection.done)
    tables = sum(table for plots, table, final in projection.done)
    assert len(notes) > DAY_S / 15  # words are always new
    assert 60 < plots < 150
    assert 100 < tables < 250
    assert projection.done.count((True, True, True)) == 1


def test_the_driver_hears_why_the_store_takes_nothing_and_when_it_does_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = DriverChannel(400, drain_at_s=300)
    projection = Projection(orders, outages=[(0, 60), (290, 330)])
    projection.missing = "files are not uploaded: 403 s3cr3t"
    said = follow(monkeypatch, orders, projection)
    behind = "behind token *** is refused by http://me:***@host"
    missing = "files are not uploaded: 403 ***"
    assert said == [
        *(behind, "again"),
        f"behind {missing}",
        *(behind, "again"),
        f"lacking {missing}",
    ]


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED", "ENDPOINT_NOT_FOUND"])
@pytest.mark.parametrize("part", ["step", "summarise"])
def test_a_wrong_login_or_address_is_not_waited_for_at_the_end(
    code: str, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = DriverChannel(400, drain_at_s=300)
    projection = Projection(orders)

    def refuse(**_: object) -> int:
        if orders.now >= 200:
            raise RestException({"error_code": code, "message": "no s3cr3t"})
        return 1

    monkeypatch.setattr(projection, part, refuse)
    said = follow(monkeypatch, orders, projection)
    assert said == [f"behind {code}: no ***", f"lacking {code}: no ***"]
    assert orders.answered_at[-1] < 310


def test_a_summary_that_fails_at_the_end_is_reported_and_not_tried_without_a_pause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders = DriverChannel(360, drain_at_s=300)
    projection = Projection(orders)
    tries: list[float] = []

    def fail(**_: object) -> None:
        if orders.drain:
            tries.append(orders.now)
            raise MlflowException("503")

    monkeypatch.setattr(projection, "summarise", fail)
    assert follow(monkeypatch, orders, projection) == ["behind 503"]
    assert 5 < len(tries) < 20


def test_one_hiccup_is_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = DriverChannel(100, drain_at_s=90)
    assert follow(monkeypatch, orders, Projection(orders, outages=[(50, 50.2)])) == ["drained"]


def test_a_file_that_fails_once_at_the_end_is_not_lacking(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = DriverChannel(100, drain_at_s=50)
    projection = Projection(orders)
    answers = iter(["files are not uploaded: 503"])
    monkeypatch.setattr(projection, "lacking", lambda: next(answers, "") if orders.drain else "")
    assert follow(monkeypatch, orders, projection) == ["drained"]


def test_a_projection_that_cannot_start_says_why() -> None:
    said: list[str] = []
    with pytest.raises(SystemExit):
        projector._die("ImportError: no such driver\nmore", said.append)
    assert said == ["behind ImportError: no such driver"]


def answering(script: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


@pytest.mark.parametrize(
    ("answer", "shown", "why"),
    [
        ("drained", True, ""),
        ("lacking two files: 403", False, "two files: 403"),
        ("left 3\nbehind gone", False, "gone"),
        ("behind gone\nleft 3", False, "gone"),
        ("behind gone\nagain\nleft 3", False, ""),
    ],
)
def test_what_the_projection_answers_is_what_the_search_tells(
    answer: str, *, shown: bool, why: str
) -> None:
    warned: list[str] = []
    left: list[int] = []
    process = ProjectorProcess(
        answering(f"echo 'behind 401'; read order; printf '{answer}\\n'"), warned.append
    )
    assert process.drain(30, left.append) is shown
    assert process.reason == why
    assert warned[0] == "401"
    assert left == [3] * ("left 3" in answer)
    process.close()


def test_a_user_who_leaves_waits_no_more() -> None:
    process = ProjectorProcess(answering("read order; exec sleep 60"))
    threading.Timer(0.2, process.cancel_wait).start()
    assert not process.drain(50)
    assert not process.drain(50)  # its input is closed by now
    process.close()


def test_a_second_drain_waits_for_its_own_answer() -> None:
    process = ProjectorProcess(
        answering("read a; echo lacking one; read b; echo drained; cat >/dev/null")
    )
    assert not process.drain(30)
    assert process.drain(30)
    assert process.reason == ""
    process.close()


@given(st.text(), st.integers(16, 2**48))
def test_a_reason_is_one_line_that_does_not_change_by_itself(text: str, address: int) -> None:
    made = reason(OSError(f"<urllib3.connection.HTTPConnection object at {address:#x}>: {text}"))
    assert f"{address:#x}" not in made.partition(text)[0] if text else made
    assert len(made.splitlines()) == 1
    assert len(made) <= 300
