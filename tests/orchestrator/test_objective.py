"""Values, the Pareto front and rankings."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import a_trial

from orchestrator.objective import Objective, best, dominates, pareto_front, rank, result
from orchestrator.trial import Trial, TrialState
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
SIZE = Objective(metric="parameters", direction="minimize")
BOTH = (ACCURACY, SIZE)

few = st.integers(0, 6).map(float)
values = st.lists(st.tuples(few, few), max_size=25)


def complete(number: int, *found: float, **changed: Any) -> Trial:
    return a_trial(number, state=TrialState.COMPLETE, values=found, **changed)


def by_brute_force(trials: list[Trial]) -> set[int]:
    return {
        t.number
        for t in trials
        if not any(dominates(o.values or (), t.values or (), BOTH) for o in trials)
    }


@given(values)
def test_the_front_is_who_no_other_dominates(found: list[tuple[float, float]]) -> None:
    trials = [complete(number, *pair) for number, pair in enumerate(found)]
    assert {t.number for t in pareto_front(trials, BOTH)} == by_brute_force(trials)


@given(values, st.randoms(use_true_random=False))
def test_the_front_does_not_depend_on_order(found: list[tuple[float, float]], chance: Any) -> None:
    trials = [complete(number, *pair) for number, pair in enumerate(found)]
    shuffled = chance.sample(trials, len(trials))
    assert pareto_front(shuffled, BOTH) == pareto_front(trials, BOTH)


def test_equal_trials_share_the_front() -> None:
    assert len(pareto_front([complete(0, 1.0, 5.0), complete(1, 1.0, 5.0)], BOTH)) == 2


def test_the_best_of_equals_is_the_earliest() -> None:
    trials = [complete(2, 0.9), complete(1, 0.9), complete(3, 0.8)]
    found = best(trials, (ACCURACY,))
    assert found is not None
    assert found.number == 1


def test_without_a_complete_trial_there_is_no_best() -> None:
    assert best([a_trial(0, state=TrialState.PRUNED, reason="rung")], (ACCURACY,)) is None


def test_a_minimized_objective_ranks_the_smallest_first() -> None:
    ranking = rank([complete(0, 3.0), complete(1, 1.0), complete(2, 2.0)], (SIZE,), ACCURACY)
    assert [t.number for t in ranking.complete] == [1, 2, 0]


def test_duplicates_and_confirmations_are_not_ranked() -> None:
    trials = [
        complete(0, 0.5),
        complete(1, 0.5, reason="duplicate"),
        complete(2, 0.9, kind="confirm"),
    ]
    assert [t.number for t in rank(trials, (ACCURACY,), ACCURACY).complete] == [0]


def test_with_several_objectives_the_front_comes_first() -> None:
    trials = [complete(0, 0.9, 9.0), complete(1, 0.8, 9.0), complete(2, 0.5, 1.0)]
    assert [t.number for t in rank(trials, BOTH, ACCURACY).complete] == [0, 2, 1]


def test_stopped_trials_are_ranked_apart_and_by_reach_first() -> None:
    def stopped(number: int, *curve: float) -> Trial:
        seen = tuple(
            Measurement(fidelity=epoch, metrics={"val_accuracy": value}, elapsed_s=1.0)
            for epoch, value in enumerate(curve, start=1)
        )
        return a_trial(number, state=TrialState.PRUNED, reason="rung", measurements=seen)

    trials = [stopped(0, 0.9), stopped(1, 0.1, 0.2), stopped(2, 0.3), complete(3, 0.05)]
    ranking = rank(trials, (ACCURACY,), ACCURACY)
    assert [t.number for t in ranking.pruned] == [1, 0, 2]
    assert [t.number for t in ranking.complete] == [3]


def test_a_cost_is_a_value_like_any_other() -> None:
    assert result(BOTH, {"val_accuracy": 0.5}, {"parameters": 100.0}) == (0.5, 100.0)


def test_a_value_that_was_not_measured_leaves_no_result() -> None:
    assert result(BOTH, {"val_accuracy": 0.5}, {}) is None


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_scores_turn_so_that_more_is_better(direction: Any) -> None:
    objective = replace(ACCURACY, direction=direction)
    better, worse = (2.0, 1.0) if direction == "maximize" else (1.0, 2.0)
    assert objective.score(better) > objective.score(worse)
