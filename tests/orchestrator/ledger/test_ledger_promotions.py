"""Promotions in the ledger: one operation, one process at it, and aliases that move by turns."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.ledger import AliasMovedError, Holder, PromotionHeldError

ME = Holder.of_this_process()


@pytest.fixture
def begin(scene: Any) -> Callable[..., str]:
    """Begins the promotion of a new trial."""
    study, lease = scene.open()
    aliased = f"model-{scene.name}"

    def run(operation: str | None = None, holder: Holder = ME, model: str = aliased) -> str:
        trial = scene.add(lease) if operation is None else None
        name = operation or f"{scene.name}-{trial.number}"
        uid = trial.uid if trial else scene.ledger.trials(study.id)[0].uid
        promotions = scene.ledger.promotions
        promotions.begin(
            name, study_id=study.id, trial_uid=uid, model=model, alias="champion", holder=holder
        )
        return name

    return run


def one(scene: Any, operation: str) -> Any:
    return next(p for p in scene.ledger.promotions.all() if p.operation == operation)


def test_a_promotion_begun_again_continues_where_it_was(scene: Any, begin: Any) -> None:
    name = begin()
    scene.ledger.promotions.advance(name, ME, "registered", version=4, detail={"digest": "d"})
    scene.ledger.promotions.advance(name, ME, "verified", detail={"accuracy": 0.5})
    begin(name)
    found = one(scene, name)
    assert (found.state, found.version) == ("verified", 4)
    assert found.detail == {"digest": "d", "accuracy": 0.5}
    assert found.expected_version is None


def test_each_step_leaves_an_event(scene: Any, begin: Any) -> None:
    name = begin()
    scene.ledger.promotions.advance(name, ME, "registered", version=1)
    study = scene.ledger.study(scene.name)
    payloads = [e.payload for e in scene.ledger.events(study.id, 0) if e.kind == "promotion"]
    assert [(p["state"], p["version"]) for p in payloads] == [("begun", None), ("registered", 1)]
    assert {p["operation"] for p in payloads} == {name}


def test_a_promotion_of_a_living_process_is_not_taken_over(scene: Any, begin: Any) -> None:
    name = begin()
    with pytest.raises(PromotionHeldError, match=f"process {ME.pid} on {ME.host} is promoting"):
        begin(name, holder=replace(ME, pid=1))


def test_a_promotion_of_an_ended_process_is_taken_over_at_once(
    scene: Any, begin: Any, dead: Holder
) -> None:
    name = begin(holder=dead)
    begin(name)
    scene.ledger.promotions.advance(name, ME, "registered", version=1)
    with pytest.raises(PromotionHeldError, match="has taken this promotion over"):
        scene.ledger.promotions.advance(name, dead, "registered", version=2)
    assert one(scene, name).version == 1


def test_a_promotion_on_another_host_is_waited_for(scene: Any, begin: Any, far: Holder) -> None:
    name = begin(holder=far)
    with pytest.raises(PromotionHeldError, match="elsewhere"):
        begin(name)
    scene.clock.pass_by(901)
    begin(name)


def test_an_ended_promotion_is_free(scene: Any, begin: Any, far: Holder) -> None:
    name = begin(holder=far)
    scene.ledger.promotions.advance(name, far, "refused", detail={"refused": "worse"})
    begin(name)
    assert one(scene, name).detail["refused"] == "worse"


def test_an_unknown_state_is_refused(scene: Any, begin: Any) -> None:
    with pytest.raises(ValueError, match="not 'finished'"):
        scene.ledger.promotions.advance(begin(), ME, "finished")


def test_of_two_promotions_against_the_same_champion_one_loses(scene: Any, begin: Any) -> None:
    promotions, model = scene.ledger.promotions, f"model-{scene.name}"
    first, second = begin(), begin()
    moves = promotions.moves(model, "champion")
    promotions.claim(first, ME, expected_version=None, moves=moves)
    with pytest.raises(AliasMovedError, match="is moving it"):
        promotions.claim(second, ME, expected_version=None, moves=moves)
    promotions.advance(first, ME, "done", version=1)
    with pytest.raises(AliasMovedError, match="has moved it"):
        promotions.claim(second, ME, expected_version=None, moves=moves)
    assert one(scene, second).state == "begun"
    after = promotions.claim(
        second, ME, expected_version=1, moves=promotions.moves(model, "champion")
    )
    assert (after.state, after.expected_version) == ("moving", 1)


def test_a_promotion_that_died_in_its_move_blocks_no_other(
    scene: Any, begin: Any, dead: Holder
) -> None:
    promotions, model = scene.ledger.promotions, f"model-{scene.name}"
    fallen = begin(holder=dead)
    promotions.claim(fallen, dead, expected_version=None, moves=0)
    mine = begin()
    moves = promotions.moves(model, "champion")
    assert moves == 1
    assert promotions.claim(mine, ME, expected_version=None, moves=moves).state == "moving"
    assert one(scene, fallen).state == "tested"


def test_aliases_of_other_models_are_independent(scene: Any, begin: Any) -> None:
    promotions = scene.ledger.promotions
    first, other = begin(), begin(model=f"other-{scene.name}")
    promotions.claim(first, ME, expected_version=None, moves=0)
    assert promotions.claim(other, ME, expected_version=None, moves=0).state == "moving"
