"""Promotion of the best epoch: the checkpoint behind a trial's value, not its newest one."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.promotions import a_promoter

from orchestrator.cli import main
from orchestrator.errors import PromotionRefusedError
from orchestrator.ledger import Ledger

pytestmark = [
    pytest.mark.mlflow,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),  # of mlflow 3.17.2
]
OBJECTIVE = "objectives=[{metric: val_accuracy, direction: minimize}]"
"""Accuracy rises, so that the first of four epochs is the best one."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("best") / "home"
    changed = ["checkpoint=best", OBJECTIVE, "budget.maximum=4", "pruner.name=none"]
    words = [word for change in changed for word in ("--set", change)]
    assert main(["--home", str(folder), "search", "tiny", "--trials", "1", "--quiet", *words]) == 0
    return folder


def test_the_promoted_model_reproduces_the_best_epochs_score(home: Path) -> None:
    with Ledger.open(home / "ledger.db") as ledger:
        (trial,) = ledger.trials(ledger.studies()[0].id)
    best: Any = trial.measurements[0]
    assert trial.values == (best.metrics["val_accuracy"],)
    promoted = a_promoter(home, "best", trial=trial.number).promote()
    assert promoted.validation == {"accuracy": pytest.approx(best.metrics["val_accuracy"])}
    folder = home / "checkpoints" / "tiny" / trial.uid
    saved: Any = [seen.checkpoint for seen in (best, *trial.measurements[-2:])]
    kept = [Path(reference.path) for reference in saved]
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in kept)
    assert main(["--home", str(home), "verify", "tiny", "--quiet"]) == 0
    # Without that checkpoint neither promotion nor verification succeeds, though newer ones exist.
    shutil.move(kept[0], folder.parent / "aside")
    with pytest.raises(PromotionRefusedError, match="the checkpoint of trial"):
        a_promoter(home, "gone", trial=trial.number)
    assert main(["--home", str(home), "verify", "tiny", "--quiet"]) == 3
    shutil.move(folder.parent / "aside", kept[0])
