"""The commands `stop` and `pause`."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from support.studies import config, opened, run

from orchestrator.cli import main
from orchestrator.ledger import Ledger
from orchestrator.study.requests.pause import PAUSE

STUDY = config(stop={"trials": 3}, sampler={"name": "random"}, pruner={"name": "none"})


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose driver has died with a running trial."""
    folder = tmp_path_factory.mktemp("interrupted")
    with opened(folder, STUDY) as study:
        assert study.ask()
        study._ledger.set_study_state(study._lease, "interrupted")
    return folder


@pytest.fixture
def home(interrupted: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(interrupted, tmp_path, dirs_exist_ok=True)


def command(home: Path, *words: str) -> int:
    return main(["--home", str(home), *words])


def document(home: Path, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    capsys.readouterr()
    command(home, "--json", *words)
    return json.loads(capsys.readouterr().out)


def test_without_a_driver_a_waiting_trial_is_stopped_at_once_and_once(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(home, capsys, "stop", "small", "0")
    assert (found["stopped"], found["was"], found["exit_code"]) == (True, "waiting", 0)
    assert command(home, "stop", "small", "0") == 2
    assert "trial 0 has ended (PRUNED, operator)" in capsys.readouterr().err


def test_a_trial_that_does_not_exist_is_refused_and_nothing_is_requested(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(home, "stop", "small", "7") == 2
    assert "there is no trial 7. Trials: 0 to 0" in capsys.readouterr().err
    with Ledger.open(home / "ledger.db") as ledger:
        kinds = {event.kind for event in ledger.events(1, 0)}
    assert "request_added" not in kinds


def test_requests_show_what_became_of_them_and_a_pause_under_way(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(home, "stop", "small", "0") == 0
    with opened(home, STUDY) as study:
        study._ledger.set_study_state(study._lease, "running")
        study._ledger.add_request(1, PAUSE, {"driver": str(study._lease.holder)})
        study._ledger.add_request(1, "later", {"text": "\x1b[2J" + "a" * 500})
        found = document(home, capsys, "status", "small")
        assert command(home, "status", "small") == 0
        shown = capsys.readouterr().out
        assert command(home, "list") == 0
        assert "pausing" in capsys.readouterr().out
    assert found["state"] == "running"
    assert [each["answer"] for each in found["requests"]] == [
        {"trial": 0, "was": "waiting", "epoch": 0},
        None,
        None,
    ]
    assert "state    pausing" in shown
    assert "stop trial 0" in shown
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) < 200


def test_pausing_a_study_that_does_not_run_changes_nothing(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(home, capsys, "pause", "small")
    assert (found["paused"], found["running"], found["exit_code"]) == (False, False, 0)


def test_a_running_study_is_paused_and_its_trials_wait(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    started = threading.Event()

    def drive() -> None:
        with opened(home, STUDY, alive=True) as study:
            started.set()
            while not study.stopping:
                study.ask()
                stopping.wait(0.05)
            reasons.append(study.stop_reason)

    reasons: list[Any] = []
    stopping = threading.Event()
    driver = threading.Thread(target=drive)
    driver.start()
    assert started.wait(30)
    found = document(home, capsys, "pause", "small")
    driver.join(30)
    assert (found["paused"], found["running"]) == (True, False)
    assert reasons == [PAUSE]
    with opened(home, STUDY) as study:
        run(study)
        assert study.finished
