"""Only the disk of the checkpoints is full or fails: the study stops, or retries."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from support.checker import of_ledger, rows, story
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main
from workers import failpoints, storage

SEARCH = [
    "search",
    "digits",
    *("--engine", "in_process", "--trials", "2"),
    *("--set", "space=tiny", "--set", "budget.maximum=3", "--set", "data.limit=200"),
    *("--set", "confirm=null"),
]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The history of the same study on a working disk."""
    home = tmp_path_factory.mktemp("calm")
    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
        assert main(["--home", str(home), *SEARCH]) == 0
    return story(home / "ledger.db", "digits")


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    monkeypatch.setattr(failpoints, "_passed", failpoints.Counter())
    return tmp_path / "mlruns" / "ledger.db"


def test_a_disk_that_stays_full_stops_the_study_which_resumes_once_there_is_room(
    calm: list[Any],
    ledger: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(point: str) -> None:
        if point == "checkpoint.writing":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as inner:
        inner.setattr(storage, "fault", full)
        assert main(SEARCH) == 4
        complaint = capsys.readouterr().err
        assert str(ledger.parent / "checkpoints" / "digits") in complaint
        assert "bytes are free" in complaint
        assert "archscout resume digits" in complaint
        assert rows(ledger, "SELECT outcome FROM attempt") == [("no_space",)]
    assert main(["resume", "digits"]) == 0
    assert of_ledger(ledger, "digits", trials=2, epochs=3) == []
    assert story(ledger, "digits") == calm


def test_a_failed_fsync_costs_one_epoch_and_changes_nothing(
    calm: list[Any], ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, "checkpoint.syncing:5:EIO")
    assert main(SEARCH) == 0
    assert rows(ledger, "SELECT outcome FROM attempt ORDER BY started")[:2] == [
        ("infrastructure",),
        ("complete",),
    ]
    assert of_ledger(ledger, "digits", trials=2, epochs=3) == []
    assert story(ledger, "digits") == calm
