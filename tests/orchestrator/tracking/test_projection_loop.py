"""The loop of a projection: messages to the driver, and the rate of uploads."""

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
from orchestrator.tracking.errors import reason
from orchestrator.tracking.process import ProjectorProcess
from orchestrator.tracking.projector import ProjectionLoop

DAY_S = 86_400


class FakeChannel:
    """A driver that ends after some time of a simulated clock."""

    def __init__(self, lasts_s: float, drain_at_s: float) -> None:
        self.now = 0.0
        self.sent_at: list[float] = []
        self.drain = False
        self._lasts_s = lasts_s
        self._drain_at_s = drain_at_s

    @property
    def ended(self) -> bool:
        return self.now >= self._lasts_s

    def wait(self, seconds: float) -> None:
        before, self.now = self.now, self.now + max(seconds, 0.01)
        self.drain = self.drain or before < self._drain_at_s <= self.now


class FakeProjection:
    """Always has new events; fails during scripted outages."""

    def __init__(self, channel: FakeChannel, outages: Sequence[tuple[float, float]] = ()) -> None:
        self.shown = 0
        self.plots_are_stale = True
        self.done: list[tuple[bool, bool, bool]] = []
        self.missing_text = ""
        self._channel = channel
        self._outages = outages

    def step(self) -> int:
        if any(start <= self._channel.now < end for start, end in self._outages):
            raise MlflowException("token s3cr3t is refused by http://me:s3cr3t@host")
        self.shown += not self._channel.drain
        return int(not self._channel.drain)

    def summarize(self, *, plots: bool, table: bool = True, final: bool = False) -> None:
        self.done.append((plots, table, final))

    def missing(self) -> str:
        return self.missing_text

    def remaining(self) -> int:
        return 0

    def last_event(self) -> int:
        return self.shown

    def commit_cursor(self) -> None:
        """Do nothing."""


def follow(
    monkeypatch: pytest.MonkeyPatch, channel: FakeChannel, projection: FakeProjection
) -> list[str]:
    clock = SimpleNamespace(monotonic=lambda: channel.now, sleep=channel.wait)
    monkeypatch.setattr(projector, "time", clock)
    messages: list[str] = []
    fakes: Any = (projection, channel)

    def send(line: str) -> None:
        messages.append(line)
        channel.sent_at.append(channel.now)

    ProjectionLoop(*fakes, send, lambda text: text.replace("s3cr3t", "***")).run()
    return messages


def test_uploads_become_rarer_while_the_search_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = FakeChannel(DAY_S, drain_at_s=DAY_S - 10)
    projection = FakeProjection(channel)
    assert follow(monkeypatch, channel, projection) == ["drained"]
    notes = [plots for plots, table, final in projection.done if not final]
    plots = sum(plots for plots, table, final in projection.done)
    tables = sum(table for plots, table, final in projection.done)
    assert len(notes) > DAY_S / 15  # the description always changes
    assert 60 < plots < 150
    assert 100 < tables < 250
    assert projection.done.count((True, True, True)) == 1


def test_the_driver_is_sent_each_outage_of_the_store_and_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = FakeChannel(400, drain_at_s=300)
    projection = FakeProjection(channel, outages=[(0, 60), (290, 330)])
    projection.missing_text = "files are not uploaded: 403 s3cr3t"
    messages = follow(monkeypatch, channel, projection)
    behind = "behind token *** is refused by http://me:***@host"
    missing = "files are not uploaded: 403 ***"
    assert messages == [
        *(behind, "recovered"),
        f"behind {missing}",
        *(behind, "recovered"),
        f"incomplete {missing}",
    ]


@pytest.mark.parametrize("code", ["UNAUTHENTICATED", "PERMISSION_DENIED", "ENDPOINT_NOT_FOUND"])
@pytest.mark.parametrize("method", ["step", "summarize"])
def test_a_wrong_login_or_address_ends_the_drain_at_once(
    code: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = FakeChannel(400, drain_at_s=300)
    projection = FakeProjection(channel)

    def refuse(**_: object) -> int:
        if channel.now >= 200:
            raise RestException({"error_code": code, "message": "no s3cr3t"})
        return 1

    monkeypatch.setattr(projection, method, refuse)
    messages = follow(monkeypatch, channel, projection)
    assert messages == [f"behind {code}: no ***", f"incomplete {code}: no ***"]
    assert channel.sent_at[-1] < 310


def test_a_failed_summary_is_reported_at_the_end_and_retried_with_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    channel = FakeChannel(360, drain_at_s=300)
    projection = FakeProjection(channel)
    attempts: list[float] = []

    def fail(**_: object) -> None:
        if channel.drain:
            attempts.append(channel.now)
            raise MlflowException("503")

    monkeypatch.setattr(projection, "summarize", fail)
    assert follow(monkeypatch, channel, projection) == ["behind 503"]
    assert 5 < len(attempts) < 20


def test_a_single_failure_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = FakeChannel(100, drain_at_s=90)
    projection = FakeProjection(channel, outages=[(50, 50.2)])
    assert follow(monkeypatch, channel, projection) == ["drained"]


def test_a_file_that_fails_once_at_the_end_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    channel = FakeChannel(100, drain_at_s=50)
    projection = FakeProjection(channel)
    answers = iter(["files are not uploaded: 503"])
    monkeypatch.setattr(projection, "missing", lambda: next(answers, "") if channel.drain else "")
    assert follow(monkeypatch, channel, projection) == ["drained"]


def test_a_projection_that_cannot_start_sends_the_reason() -> None:
    messages: list[str] = []
    with pytest.raises(SystemExit):
        projector._die("ImportError: no such driver\nmore", messages.append)
    assert messages == ["behind ImportError: no such driver"]


def process_of(script: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    )


@pytest.mark.parametrize(
    ("send", "shown", "reason_text"),
    [
        ("drained", True, ""),
        ("incomplete two files: 403", False, "two files: 403"),
        ("remaining 3\nbehind gone", False, "gone"),
        ("behind gone\nleft 3", False, "gone"),
        ("behind gone\nrecovered\nleft 3", False, ""),
    ],
)
def test_messages_of_the_projection_reach_the_driver(
    send: str, *, shown: bool, reason_text: str
) -> None:
    warnings: list[str] = []
    remaining: list[int] = []
    process = ProjectorProcess(
        process_of(f"echo 'behind 401'; read message; printf '{send}\\n'"), warnings.append
    )
    assert process.drain(30, remaining.append) is shown
    assert process.reason == reason_text
    assert warnings[0] == "401"
    assert remaining == [3] * ("remaining 3" in send)
    process.close()


def test_a_cancelled_wait_returns_at_once() -> None:
    process = ProjectorProcess(process_of("read message; exec sleep 60"))
    threading.Timer(0.2, process.cancel_wait).start()
    assert not process.drain(50)
    assert not process.drain(50)  # its input is closed by now
    process.close()


def test_a_second_drain_waits_for_its_own_response() -> None:
    process = ProjectorProcess(
        process_of("read a; echo incomplete one; read b; echo drained; cat >/dev/null")
    )
    assert not process.drain(30)
    assert process.drain(30)
    assert process.reason == ""
    process.close()


@given(st.text(), st.integers(16, 2**48))
def test_a_reason_is_one_line_without_memory_addresses(text: str, address: int) -> None:
    text_of = reason(OSError(f"<urllib3.connection.HTTPConnection object at {address:#x}>: {text}"))
    assert f"{address:#x}" not in text_of.partition(text)[0] if text else text_of
    assert len(text_of.splitlines()) == 1
    assert len(text_of) <= 300
