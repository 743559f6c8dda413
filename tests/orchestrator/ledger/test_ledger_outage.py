"""A PostgreSQL server killed outright is waited for: nothing acknowledged is lost, and no longer
than patience lasts."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from support.checker import of_ledger, story
from support.servers import Server, server
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main
from orchestrator.ledger import Holder, Ledger, LedgerUnavailableError
from orchestrator.ledger.ledger import transitions
from orchestrator.trial import Trial
from workers.measurement import Measurement

BACK_S = 30.0
"""How long a driver may take to go on once the server accepts again."""


@pytest.fixture(scope="module")
def ours() -> Iterator[Server]:
    with server() as started:
        yield started


def test_a_killed_server_is_waited_for_and_nothing_acknowledged_is_lost(
    ours: Server, measure: Callable[..., Measurement]
) -> None:
    said: list[str] = []
    written: list[tuple[int, float]] = []
    stop = threading.Event()
    with Ledger.open(ours.url, max_outage_s=60, tell=said.append) as ledger:
        row, lease = ledger.open_study(
            name="waited", config_json="{}", holder=Holder.of_this_process()
        )
        ledger.add_trial(lease, _new())
        key = ledger.start_attempt(lease, "u")

        def write() -> None:
            for epoch in range(1, 100_000):
                if stop.is_set():
                    return
                assert ledger.record(lease, key, measure(epoch))
                written.append((epoch, time.monotonic()))

        writer = threading.Thread(target=write)
        writer.start()
        _until(lambda: len(written) > 20)
        ours.kill()
        time.sleep(1.5)
        before = len(written)
        ours.start()
        accepts = time.monotonic()
        _until(lambda: len(written) > before + 20)
        stop.set()
        writer.join()
        assert written[before][1] - accepts < BACK_S
        kept = [seen.fidelity for seen in ledger.trials(row.id)[0].measurements]
        assert kept == [epoch for epoch, _ in written]
    assert len(said) == 2
    assert "waiting for it, 60 s at most" in said[0]


def test_a_long_outage_is_given_up_once_and_then_not_waited_for(ours: Server) -> None:
    with Ledger.open(ours.url, max_outage_s=3.0) as ledger:
        _, lease = ledger.open_study(name="away", config_json="{}", holder=Holder.of_this_process())
        ours.kill()
        try:
            for least, most in ((3.0, 60.0), (0.0, 2.9)):
                began = time.monotonic()
                with pytest.raises(LedgerUnavailableError, match="did not answer"):
                    ledger.add_spent(lease, 1.0)
                assert least <= time.monotonic() - began < most
        finally:
            ours.start()
        ledger.add_spent(lease, 2.0)
        assert ledger.study("away").spent_s == 2.0


def test_a_cancelled_wait_gives_up_at_once(ours: Server) -> None:
    with Ledger.open(ours.url, max_outage_s=600.0) as ledger:
        _, lease = ledger.open_study(
            name="hurry", config_json="{}", holder=Holder.of_this_process()
        )
        ours.kill()
        try:
            threading.Timer(0.5, ledger.cancel_wait).start()
            began = time.monotonic()
            with pytest.raises(LedgerUnavailableError):
                ledger.add_spent(lease, 1.0)
            assert time.monotonic() - began < 60.0  # of 600 s
        finally:
            ours.start()


def test_a_connection_ended_in_a_transaction_loses_nothing(
    ours: Server, monkeypatch: pytest.MonkeyPatch, measure: Callable[..., Measurement]
) -> None:
    with Ledger.open(ours.url) as ledger:
        row, lease = ledger.open_study(
            name="ended", config_json="{}", holder=Holder.of_this_process()
        )
        ledger.add_trial(lease, _new("v"))
        key = ledger.start_attempt(lease, "v")
        keep = transitions._insert

        def cut_then_keep(*args: Any, **given: Any) -> Any:
            monkeypatch.undo()
            kept = keep(*args, **given)
            ours.cut_all()
            return kept

        monkeypatch.setattr(transitions, "_insert", cut_then_keep)
        assert ledger.record(lease, key, measure(1, checkpoint=True))
        assert [m.fidelity for m in ledger.trials(row.id)[0].measurements] == [1]
        assert len(ledger.checkpoints("v")) == 1


SEARCH = ["search", "surrogate", "--engine", "in_process", "--set", "space=tiny", "--trials", "4"]


def test_a_search_whose_server_is_killed_gives_the_same_study(
    ours: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    assert main(["--home", str(tmp_path / "calm"), *SEARCH]) == 0
    monkeypatch.setenv("ARCHSCOUT_LEDGER", ours.url)
    kill, back = _killed_at_the_nth_record(monkeypatch, ours, 7)
    assert main(["--home", str(tmp_path / "hurt"), *SEARCH]) == 0
    back.join()
    assert kill.is_set()
    assert "waiting for it" in capsys.readouterr().err
    assert of_ledger(ours.url, "surrogate", trials=4, epochs=10) == []
    calm = tmp_path / "calm" / "ledger.db"
    assert story(ours.url, "surrogate") == story(calm, "surrogate")


def test_a_search_in_a_long_outage_exits_with_4_and_one_message_and_can_be_resumed(
    ours: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    monkeypatch.setattr(orchestrator.run, "MAX_OUTAGE_S", 1.5)
    monkeypatch.setenv("ARCHSCOUT_LEDGER", ours.url)
    search = [*SEARCH, "--name", "left"]
    with monkeypatch.context() as inner:
        _killed_at_the_nth_record(inner, ours, 7, away_s=None)
        assert main(search) == 4
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == 2
    assert "waiting for it" in complaints[0]
    assert "once it answers" in complaints[1]
    ours.start()
    with psycopg.connect(ours.url) as connection:  # its driver was this process, which lives
        connection.execute("UPDATE lease SET until = 0")
    assert main(["resume", "left"]) == 0
    assert of_ledger(ours.url, "left", trials=4, epochs=10) == []


def _killed_at_the_nth_record(
    monkeypatch: pytest.MonkeyPatch, ours: Server, nth: int, away_s: float | None = 1.5
) -> tuple[threading.Event, threading.Thread]:
    """Kills the server in mid-transaction; it comes back after a while unless it stays away."""
    keep, killed, calls = transitions._insert, threading.Event(), [0]

    def come_back() -> None:
        killed.wait()
        if away_s is not None:
            time.sleep(away_s)
            ours.start()

    back = threading.Thread(target=come_back, daemon=True)
    back.start()

    def killing(*args: Any, **given: Any) -> Any:
        calls[0] += 1
        if calls[0] == nth:
            ours.kill()
            killed.set()
        return keep(*args, **given)

    monkeypatch.setattr(transitions, "_insert", killing)
    return killed, back


def _new(uid: str = "u") -> Trial:
    given: dict[str, Any] = {"params": {}, "distributions": {}, "candidate": {}}
    return Trial(number=0, uid=uid, digest="d", seed=0, **given)


def _until(true: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)
