"""A trial whose run somebody deleted in MLflow's pages: what mends it is named."""

from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.promotion.promoting import Promoter
from orchestrator.promotion.refusal import PromotionRefused


def test_the_command_that_shows_the_study_again_is_named() -> None:
    caught_up: list[str] = []
    experiment = SimpleNamespace(experiment=None)
    promoter: Any = SimpleNamespace(
        winner=SimpleNamespace(
            config=SimpleNamespace(name="bars", tracking=experiment),
            trial=SimpleNamespace(uid="u", number=3),
            study=SimpleNamespace(name="bars"),
        ),
        registry=SimpleNamespace(run_of=lambda *_: None),
        say=lambda _: None,
        catch_up=lambda: caught_up.append("yes"),
    )
    with pytest.raises(PromotionRefused, match=r"no run of trial 3; .*archscout sync bars"):
        Promoter._run(promoter)
    assert caught_up == ["yes"]
