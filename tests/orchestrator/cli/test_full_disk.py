"""A disk that fills up during a search: the study stops in order and resumes with free space."""

from pathlib import Path

import pytest
from support.checker import of_ledger
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main
from workers import failpoints

SEARCH = ["search", "surrogate", "--engine", "in_process", "--set", "space=tiny", "--trials", "4"]


@pytest.mark.parametrize("point", ["recorded", "finished"])
def test_a_full_disk_stops_the_study_which_resumes_once_there_is_room(
    point: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    monkeypatch.setattr(failpoints, "_passed", failpoints.Counter())
    monkeypatch.setenv(failpoints.VARIABLE, f"{point}.uncommitted:2:ENOSPC")
    assert main(SEARCH) == 4
    complaint = capsys.readouterr().err
    assert "no space left" in complaint
    assert "resume" in complaint
    monkeypatch.delenv(failpoints.VARIABLE)
    assert main(["resume", "surrogate"]) == 0
    ledger = tmp_path / "mlruns" / "ledger.db"
    assert of_ledger(ledger, "surrogate", trials=4, epochs=10) == []
