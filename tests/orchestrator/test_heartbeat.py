"""The heartbeat beats on through errors that pass, and ends on request."""

import threading
from pathlib import Path
from typing import Any

import pytest
from support.studies import opened

from orchestrator.ledger import Lease, Ledger, StudyGoneError
from orchestrator.study.heartbeat import Heartbeat


def test_a_forgiven_error_does_not_end_the_beat() -> None:
    beats: list[int] = []
    thrice = threading.Event()

    def beat() -> None:
        beats.append(1)
        if len(beats) == 3:
            thrice.set()
        raise OSError("passing")

    heartbeat = Heartbeat(beat, interval_s=0.001, ignore=OSError)
    heartbeat.start()
    assert thrice.wait(60)
    heartbeat.stop()
    after = len(beats)
    assert not threading.Event().wait(0.02)
    assert len(beats) == after


def test_a_study_deleted_under_its_driver_is_no_traceback_of_the_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beats = threading.Semaphore(0)

    class Gone:
        def __init__(self, ledger: Ledger) -> None:
            self._ledger = ledger
            self._left = 3

        def renew(self, lease: Lease) -> Lease:
            beats.release()
            self._left -= 1
            if self._left >= 0:
                raise StudyGoneError("deleted")
            return self._ledger.renew(lease)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._ledger, name)

    monkeypatch.setattr("orchestrator.study.driver._HEARTBEAT_S", 0.001)
    with opened(tmp_path, through=Gone):
        assert all(beats.acquire(timeout=60) for _ in range(4))
