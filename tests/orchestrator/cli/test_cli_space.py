"""`archscout space`, and the checks before a search creates a study."""

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli import main
from orchestrator.commands import run_search, space
from orchestrator.preflight import diagnosis, feasibility, timing

SURROGATE = ["surrogate", "--engine", "in_process"]
IMPOSSIBLE = ["--set", "constraints=[{metric: parameters, at_most: 10}]"]


@pytest.fixture(autouse=True)
def _few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check few candidates, without a time limit."""
    monkeypatch.setattr(diagnosis, "SAMPLED", 30)
    monkeypatch.setattr(diagnosis, "COUNTED", 4)
    monkeypatch.setattr(timing, "MAX_TIMED", 1)
    monkeypatch.setattr(feasibility, "MAX_STEPS", 4)
    monkeypatch.setattr(space, "TIMEOUT_S", 600.0)  # the counts above end it first
    monkeypatch.setattr(run_search, "CHECK_S", 600.0)
    monkeypatch.setattr(run_search, "TIMEOUT_S", 600.0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "mlruns"


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_space_is_shown_with_its_decisions_samples_and_health(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    assert main(["space", "tiny", "--samples", "3"]) == 0
    shown = capsys.readouterr().out
    assert "recipe.learning_rate" in shown
    assert shown.count("yes") == 3
    assert "distinct networks" in shown
    assert "forecast           4 trials on 1 slot: about " in shown
    assert "activation memory" in shown
    assert not home.exists()


def test_json_holds_the_whole_report(capsys: pytest.CaptureFixture[str]) -> None:
    code, document = answer(capsys, "space", "surrogate")
    health = document["health"]
    assert code == 0
    assert len(document["samples"]) == 5
    assert health["fit_by_shape"] == health["drawn"] == 30
    assert health["build"] == health["counted"] == 5  # no fewer than are shown
    assert health["networks"]["count"] == 90  # (3 widths of 3 blocks) and their pairs
    assert set(health["quantiles"]) == {"parameters", "flops", "activation_bytes"}
    assert health["forecast"] is None  # nothing is trained


def test_an_impossible_constraint_is_refused_with_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "study.yaml"
    config.write_text(
        "space: tiny\ndata: {source: surrogate}\nconstraints: [{metric: flops, at_most: 10}]\n"
    )
    code, document = answer(capsys, "space", str(config))
    assert code == 2
    assert document["health"]["all_constraints"]["possible"] is False
    assert document["errors"][0].startswith("study: constraints[0].at_most: no candidate found")


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_search_that_cannot_work_creates_no_study(
    capsys: pytest.CaptureFixture[str], home: Path, more: list[str]
) -> None:
    assert main(["search", *SURROGATE, *IMPOSSIBLE, *more]) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(
        "surrogate: constraints[0].at_most: no candidate found has parameters of at most 10; "
        "the nearest, "
    )
    assert error.count("\n") == 1
    assert not home.exists()


def test_a_dry_run_forecasts_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "tiny", "--dry-run"]) == 0
    assert "forecast         4 trials on 1 slot: about " in capsys.readouterr().out


def test_a_define_by_run_space_is_shown_with_what_is_unknown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(
        "def space(trial):\n    return {'x': trial.suggest_float('x', 0.0, 1.0)}\n"
        "def train(decisions, context):\n    yield {'val_accuracy': 0.5}\n"
    )
    config = tmp_path / "study.yaml"
    config.write_text("space: mine.py:space\ntrain: mine.py:train\n")
    assert main(["space", str(config)]) == 0
    assert "known only by running it" in capsys.readouterr().out
    assert answer(capsys, "space", str(config))[1]["health"] is None
