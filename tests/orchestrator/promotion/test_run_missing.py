"""A trial whose run a user deleted in MLflow's pages: the fix is named."""

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.errors import PromotionRefusedError
from orchestrator.promotion.promoter import Promoter


def test_a_missing_run_is_refused_with_the_reason_and_the_sync_command() -> None:
    experiment = SimpleNamespace(experiment=None)
    promoter: Any = SimpleNamespace(
        winner=SimpleNamespace(
            config=SimpleNamespace(name="bars", tracking=experiment),
            trial=SimpleNamespace(uid="u", number=3),
            study=SimpleNamespace(name="bars"),
        ),
        registry=SimpleNamespace(run_of=lambda *_: None),
        say=lambda _: None,
        catch_up=lambda: "UNAUTHENTICATED: invalid token",
        sync="archscout --home h sync bars",
    )
    message = r"no run of trial 3 \(UNAUTHENTICATED: .*\); .*: archscout --home h sync bars$"
    with pytest.raises(PromotionRefusedError, match=message):
        Promoter._run(promoter)
