"""Classes with regression targets, and simulated data: presets, `init`, and refused configs."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from support.trackers import NoTracker

import orchestrator.run
from orchestrator.cli import main


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(orchestrator.run, "start_projector", lambda **_: NoTracker())
    return tmp_path


@pytest.mark.parametrize("preset", ["pendulum", "shapes"])
def test_a_preset_of_simulated_data_searches_both_objectives(
    preset: str, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = ["--engine", "in_process", "--trials", "1", "--set", "data.limit=200"]
    quick += ["--set", "budget.minimum=1", "--set", "budget.maximum=1"]
    assert main(["search", preset, *quick, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (row,) = said["trials"]
    assert len(row["values"]) == 2
    assert row["on_front"]


def test_init_proposes_a_study_for_regression_targets(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.preflight.timing.example_s", lambda *_, **__: 1e-4)
    random = np.random.default_rng(0)
    np.savez(here / "a.npz", x=random.normal(size=(90, 3)), y=random.normal(size=90))
    assert main(["init", "a.npz"]) == 0
    shown = capsys.readouterr().out
    assert "vectors     3 values each" in shown
    assert "targets     0: -" in shown
    study = yaml.safe_load((here / "study.yaml").read_text())
    assert study["space"] == "vector"
    assert study["objectives"] == [{"metric": "val_mae", "direction": "minimize"}]
    quick = ["--engine", "in_process", "--trials", "1", "--set", "budget.maximum=1"]
    assert main(["search", "study.yaml", *quick, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["trials"][0]["values"]["val_mae"] > 0


def test_init_proposes_both_objectives_for_classes_and_regression_targets(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.preflight.timing.example_s", lambda *_, **__: 1e-4)
    random = np.random.default_rng(0)
    values = random.normal(size=(60, 2))
    images = random.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(here / "a.npz", x=images, y=np.arange(60) % 3, values=values)
    assert main(["init", "a.npz", "--json"]) == 0
    assert {*json.loads(capsys.readouterr().out)["found"]["numbers"]} == {"0", "1"}
    study = yaml.safe_load((here / "study.yaml").read_text())
    assert [each["metric"] for each in study["objectives"]] == ["val_accuracy", "val_rmse"]
    assert study["space"] == "hybrid"


@pytest.mark.parametrize("metric", ["val_total", "weighted_loss", "weights/mse", "terms/mse"])
def test_a_metric_that_depends_on_the_loss_weights_is_no_objective(
    metric: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "shapes", "--set", f"objectives[1].metric={metric}", "--dry-run"]) == 2
    error = capsys.readouterr().err
    assert f"objectives[1].metric: '{metric}' depends on the loss weights" in error
    assert "Use a metric without loss weights" in error


def test_the_loss_is_no_objective_where_the_space_decides_the_main_term(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["search", "shapes", "--set", "objectives[1].metric=val_loss", "--dry-run"]) == 2
    assert "the search could lower it by changing the loss" in capsys.readouterr().err
