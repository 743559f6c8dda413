from collections.abc import Mapping
from typing import Any

from orchestrator.ledger import Event
from orchestrator.objective import Objective
from orchestrator.tracking.events import EventFold
from orchestrator.trial import TrialState

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
LOSS = Objective(metric="val_loss", direction="minimize")


def events(*pairs: tuple[str, Mapping[str, Any]]) -> list[Event]:
    return [
        Event(id=index, kind=kind, payload=payload, recorded=1000.0 + index)
        for index, (kind, payload) in enumerate(pairs, start=1)
    ]


def added(uid: str, number: int, **given: Any) -> tuple[str, Mapping[str, Any]]:
    payload = {"uid": uid, "number": number, "kind": "search", "parent": None, "params": {}}
    return "trial_added", {**payload, "digest": "d", "seed": 0, **given}


def finished(uid: str, state: str, *values: float, **given: Any) -> tuple[str, Mapping[str, Any]]:
    payload = {"uid": uid, "state": state, "values": values or None, "reason": None}
    return "trial_finished", {**payload, "violations": {}, "failure": None, **given}


def measured(uid: str, epoch: int) -> tuple[str, Mapping[str, Any]]:
    payload = {"uid": uid, "epoch": epoch, "metrics": {"val_accuracy": 0.5}, "elapsed_s": 1.0}
    return "measurement", payload


def test_a_requeued_trial_keeps_its_first_start() -> None:
    history = EventFold([ACCURACY])
    history.apply(
        events(
            added("a", 0),
            ("attempt_started", {"uid": "a", "attempt": 1}),
            ("trial_given_back", {"uid": "a"}),
        ),
        shown=False,
    )
    assert history.trials["a"].trial.state is TrialState.WAITING
    again = [Event(id=9, kind="attempt_started", payload={"uid": "a", "attempt": 2}, recorded=2e3)]
    history.apply(again, shown=False)
    trial = history.trials["a"].trial
    assert (trial.state, trial.attempts, trial.started) == (TrialState.RUNNING, 2, 1002.0)


def test_events_shown_before_are_folded_but_not_shown_again() -> None:
    history = EventFold([ACCURACY])
    history.apply(
        events(added("a", 0), measured("a", 1), finished("a", "COMPLETE", 0.5)), shown=True
    )
    assert not history.changed
    assert not history.fresh
    assert not history.fresh_best
    assert history.trials["a"].epoch == 1
    later = events(added("b", 1), finished("b", "COMPLETE", 0.4))
    history.apply(later, shown=False)
    assert [(point.value, point.number) for point in history.fresh_best] == [(0.5, 1)]


def test_the_best_value_of_a_minimized_objective_decreases() -> None:
    history = EventFold([ACCURACY, LOSS])
    history.apply(
        events(
            added("a", 0),
            finished("a", "COMPLETE", 0.5, 2.0),
            added("b", 1),
            finished("b", "COMPLETE", 0.4, 1.0),
        ),
        shown=False,
    )
    assert [(p.metric, p.value, p.number) for p in history.fresh_best] == [
        ("val_accuracy", 0.5, 0),
        ("val_loss", 2.0, 0),
        ("val_accuracy", 0.5, 1),
        ("val_loss", 1.0, 1),
    ]


def test_duplicates_and_stopped_trials_do_not_move_the_best_value() -> None:
    history = EventFold([ACCURACY])
    history.apply(
        events(
            added("a", 0),
            finished("a", "COMPLETE", 0.9, reason="duplicate"),
            added("b", 1),
            finished("b", "PRUNED", reason="rung"),
        ),
        shown=False,
    )
    assert not history.fresh_best


def test_events_of_unknown_kinds_are_skipped() -> None:
    history = EventFold([ACCURACY])
    history.apply(events(("study_spent", {"seconds": 1.0}), added("a", 0)), shown=False)
    assert list(history.trials) == ["a"]
