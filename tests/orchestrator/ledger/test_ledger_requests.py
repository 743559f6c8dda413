"""A request's answer and its effect are one transaction, on both databases."""

import uuid
from typing import Any

import pytest

from orchestrator.ledger import (
    Effect,
    IllegalTransitionError,
    LeaseLostError,
    NumberMismatchError,
    StaleAttemptError,
    StudyGoneError,
)
from orchestrator.trial import TrialState

MORE = '{"seed":0,"stop":{"trials":8}}'
LESS = '{"seed":0,"stop":{"trials":4}}'


def events(scene: Any, study_id: int, *kinds: str) -> list[Any]:
    found = scene.ledger.events(study_id, 0, 1000)
    return [(each.kind, dict(each.payload)) for each in found if each.kind in kinds]


def test_an_effect_changes_the_study_adds_and_ends_trials_with_the_answer(scene: Any) -> None:
    row, lease = scene.open(config_json=LESS)
    waiting = scene.add(lease)
    asked = scene.ledger.add_request(row.id, "extend", {"trials": 4})
    new = scene.new()
    effect = Effect(
        answer={"trials": 8}, changes={"config_json": MORE}, added=[new], ended=[waiting.uid]
    )
    assert scene.ledger.carry_out(lease, asked, effect)
    assert scene.ledger.read_answer(asked) == {"trials": 8}
    assert scene.ledger.study(scene.name).config_json == MORE
    ended, added = scene.ledger.trials(row.id)
    assert (ended.state, ended.reason) == (TrialState.PRUNED, "operator")
    assert (added.uid, added.state) == (new.uid, TrialState.WAITING)
    changed = {"request": asked, "changed": {"config.stop.trials": [4, 8]}, "config_json": MORE}
    assert events(scene, row.id, "request_added", "study_changed", "request_answered") == [
        ("request_added", {"request": asked, "kind": "extend", "payload": {"trials": 4}}),
        ("study_changed", changed),
        ("request_answered", {"request": asked, "kind": "extend", "answer": {"trials": 8}}),
    ]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"added": 1}, NumberMismatchError),
        ({"ended": 1}, IllegalTransitionError),
    ],
)
def test_an_effect_that_fails_in_part_leaves_nothing_and_the_request_open(
    scene: Any, bad: dict[str, Any], error: type[Exception]
) -> None:
    row, lease = scene.open(config_json=LESS)
    key = scene.start(lease)
    scene.ledger.finish(lease, key.trial_uid, key=key, state=TrialState.FAIL)
    asked = scene.ledger.add_request(row.id, "extend", {"trials": 4})
    before = scene.kinds(row.id)
    parts = {
        "added": [scene.new(number=9)] if "added" in bad else [],
        "ended": [key.trial_uid] if "ended" in bad else [],
    }
    effect = Effect(answer={"trials": 8}, changes={"config_json": MORE}, **parts)
    with pytest.raises(error):
        scene.ledger.carry_out(lease, asked, effect)
    assert scene.ledger.study(scene.name).config_json == LESS
    assert scene.kinds(row.id) == before
    assert [request.id for request in scene.ledger.requests(row.id)] == [asked]


def test_a_request_is_carried_out_once(scene: Any) -> None:
    row, lease = scene.open()
    asked = scene.ledger.add_request(row.id, "retry", {})
    assert scene.ledger.carry_out(lease, asked, Effect(answer={"n": 1}, added=[scene.new()]))
    before = scene.kinds(row.id)
    again = Effect(answer={"n": 2}, changes={"config_json": MORE}, added=[scene.new()])
    assert not scene.ledger.carry_out(lease, asked, again)
    assert scene.kinds(row.id) == before
    assert len(scene.ledger.trials(row.id)) == 1
    assert scene.ledger.read_answer(asked) == {"n": 1}


def test_a_driver_without_the_lease_carries_nothing_out(scene: Any, far: Any) -> None:
    row, lease = scene.open()
    scene.ledger.release(lease)
    scene.open(far)
    asked = scene.ledger.add_request(row.id, "retry", {})
    with pytest.raises(LeaseLostError):
        scene.ledger.carry_out(lease, asked, Effect(answer={}, changes={"config_json": MORE}))
    assert scene.ledger.read_answer(asked) is None


def test_a_running_trial_that_its_operator_ends_accepts_no_report(scene: Any, measure: Any) -> None:
    row, lease = scene.open()
    key = scene.start(lease)
    scene.ledger.record(lease, key, measure(1))
    asked = scene.ledger.add_request(row.id, "stop", {"uid": key.trial_uid})
    assert scene.ledger.carry_out(lease, asked, Effect(answer={}, ended=[key.trial_uid]))
    with pytest.raises(StaleAttemptError):
        scene.ledger.record(lease, key, measure(2))
    [trial] = scene.ledger.trials(row.id)
    assert (trial.state, trial.reason, trial.reached) == (TrialState.PRUNED, "operator", 1)
    [attempt] = scene.ledger.attempts(key.trial_uid)
    assert (attempt.outcome, attempt.ended) == ("pruned", scene.clock.now())


@pytest.mark.parametrize(
    ("effect", "state"),
    [
        (Effect(answer={"refused": "no"}), "finished"),
        (Effect(answer={}, changes={"config_json": MORE}), "interrupted"),
    ],
)
def test_a_finished_study_is_continued_if_the_effect_leaves_something_to_do(
    scene: Any, effect: Effect, state: str
) -> None:
    row, lease = scene.open()
    scene.ledger.set_study_state(lease, "finished")
    scene.ledger.carry_out(lease, scene.ledger.add_request(row.id, "extend", {}), effect)
    assert scene.ledger.study(scene.name).state == state
    assert events(scene, row.id, "study_state")[-1] == ("study_state", {"state": state})


def test_equal_open_requests_are_one_and_an_operation_keeps_them_apart(scene: Any) -> None:
    row, lease = scene.open()
    merged = {scene.ledger.add_request(row.id, "retry", {"class": "timeout"}) for _ in range(2)}
    apart = {
        scene.ledger.add_request(row.id, "extend", {"trials": 1, "operation": uuid.uuid4().hex})
        for _ in range(2)
    }
    assert (len(merged), len(apart)) == (1, 2)
    assert len(events(scene, row.id, "request_added")) == 3
    scene.ledger.carry_out(lease, merged.pop(), Effect(answer={}))
    assert scene.ledger.add_request(row.id, "retry", {"class": "timeout"}) > max(apart)


def test_a_request_to_a_deleted_study_is_refused(scene: Any) -> None:
    row, lease = scene.open()
    scene.ledger.release(lease)
    scene.ledger.delete_study(scene.name, lease.holder)
    with pytest.raises(StudyGoneError):
        scene.ledger.add_request(row.id, "retry", {})


def test_the_events_of_requests_keep_the_order_of_generations(scene: Any, far: Any) -> None:
    row, lease = scene.open()
    scene.ledger.release(lease)
    scene.open(far)
    scene.ledger.add_request(row.id, "retry", {})
    found = scene.sql(f"SELECT generation FROM event WHERE study_id = {row.id} ORDER BY id")
    generations = [generation for (generation,) in found]
    assert generations == sorted(generations)
    assert generations[-1] == 2
