"""A user's own training that names no data: the study claims none, wherever it is shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.stories import Story, project
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main
from orchestrator.config.schema import StudyConfig
from orchestrator.ledger import Ledger
from orchestrator.tracking.summary import config_params, study_description

MINE = """
def space(trial):
    trial.suggest_float("x", 0.0, 1.0)
def train(decisions, context):
    yield {"val_accuracy": decisions["x"]}
"""
STUDY = (
    "name: mine\nspace: mine.py:space\ntrain: mine.py:train\nengine: {name: in_process}\n"
    "budget: {maximum: 1}\nstop: {trials: 2}\n"
)
OWN = {"name": "mine", "space": "mine.py:space", "train": "mine.py:train"}


@pytest.fixture(autouse=True)
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study in a file, of whose search MLflow shows nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "study.yaml").write_text(STUDY)


def test_a_study_without_data_claims_none_in_terminal_and_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "study.yaml"]) == 0
    assert main(["status", "mine"]) == 0
    assert main(["space", "study.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "data       read by your own training\n" in shown
    assert "digits" not in shown
    assert main(["status", "mine", "--json"]) == 0
    assert "data" not in json.loads(capsys.readouterr().out)["config"]
    with Ledger.open(tmp_path / "mlruns" / "ledger.db") as ledger:
        row = ledger.study("mine")
    assert row is not None
    assert row.data_digest == "none"
    assert "digits" not in row.config_json


def test_a_study_with_recorded_default_data_of_an_earlier_release_resumes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["search", "study.yaml", "--set", "data.source=digits"]) == 0
    assert main(["search", "study.yaml"]) == 0
    assert "Study 'mine' is finished." in capsys.readouterr().out
    assert main(["search", "study.yaml", "--set", "seed=1"]) == 2
    assert "\n  seed: 0 -> 1\n" in capsys.readouterr().err


@pytest.mark.mlflow
@pytest.mark.filterwarnings("ignore:.*noload.*")
@pytest.mark.parametrize("named", [False, True])
def test_mlflow_shows_configured_data(tmp_path: Path, empty_store: Path, *, named: bool) -> None:
    config: dict[str, Any] = {**OWN, **({"data": {}} if named else {})}
    story = Story(tmp_path / "home", empty_store, **config)
    uid = story.add()
    story.start(uid)
    seen = project(story)
    for run in (seen.parent, seen.child(uid)):
        assert bool(seen.client.get_run(run.info.run_id).inputs.dataset_inputs) == named


def test_configured_data_and_its_absence_survive_a_round_trip() -> None:
    named: list[dict[str, Any]] = [{"data": {}}, {"data": {"source": "idx", "path": "/d"}}]
    for given in ({}, *named):
        config = StudyConfig.model_validate({**OWN, **given})
        assert StudyConfig.from_json(config.canonical_json()) == config
        assert ("data" in json.loads(config.canonical_json())) == bool(given)
        assert ("data.source" in config_params(config)) == bool(given)
        assert (
            " on data `" in study_description(config, [], [], answer="", links={}, parent_link=None)
        ) == bool(given)
