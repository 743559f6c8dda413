"""A model registered by an older release predicts as it did then, and is a teacher."""

import json
from pathlib import Path

import pytest
from support.old_home import unpack_old_home

from orchestrator.cli import main
from orchestrator.ledger import Ledger

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]


def test_a_model_registered_by_an_older_release_predicts_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = unpack_old_home(tmp_path)
    images = str(tmp_path / "images.npy")
    assert main(["--home", str(home), "--json", "predict", "old@champion", images]) == 0
    predictions = json.loads(capsys.readouterr().out)["predictions"]
    expected = json.loads((tmp_path / "predictions.json").read_text())
    assert len(predictions) == len(expected) == 4
    for prediction, probabilities in zip(predictions, expected, strict=True):
        assert prediction["probabilities"] == pytest.approx(probabilities, abs=1e-6)


def test_a_study_that_distils_from_an_old_model_resumes(tmp_path: Path) -> None:
    home = unpack_old_home(tmp_path)
    assert main(["--home", str(home), "--quiet", "resume", "pupils"]) == 0
    with Ledger.open(home / "ledger.db") as ledger:
        row = ledger.study("pupils")
        assert row is not None
        assert [trial.state for trial in ledger.trials(row.id)] == ["COMPLETE", "COMPLETE"]
