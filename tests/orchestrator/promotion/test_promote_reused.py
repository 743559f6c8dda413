"""A result that an earlier study gave is promoted where it was trained."""

from pathlib import Path

import pytest
from support.studies import config, opened, run

from orchestrator.errors import PromotionRefusedError
from orchestrator.ledger import Ledger
from orchestrator.promotion.winner import load_winner
from workers.storage import LocalFolder


def test_a_transferred_result_is_promoted_from_its_own_study(tmp_path: Path) -> None:
    with opened(tmp_path, config(name="first", stop={"trials": 1})) as study:
        run(study)
        known = study.trials[0]
    asked = config(name="second", warm_start=["first"], seed_points=[dict(known.params)])
    with opened(tmp_path, asked) as study:
        study.ask()
        answered = study.trials[0]
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        row = ledger.study("second")
        assert row is not None
        theirs = asked.model_copy(update={"train": None})
        with pytest.raises(PromotionRefusedError, match="promote first --trial 0"):
            load_winner(ledger, row, theirs, answered, LocalFolder(tmp_path / "checkpoints"))
