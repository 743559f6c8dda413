"""Values, the Pareto front and rankings."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.studies import a_trial

from orchestrator.objective import (
    Objective,
    best,
    dominates,
    objective_values,
    pareto_front,
    pareto_order,
    rank,
)
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


@given(st.integers(2, 3).flatmap(lambda count: st.lists(st.tuples(*[few] * count), max_size=25)))
def test_the_order_peels_one_front_after_the_other(found: list[tuple[float, ...]]) -> None:
    def dominated(point: tuple[float, ...]) -> bool:
        return any(
            other != point and all(a >= b for a, b in zip(other, point, strict=True))
            for other in rest
        )

    number = dict(zip(found, (-key[0] for key in pareto_order(found)), strict=True))
    rest, expected = set(found), 0
    while rest:
        front = {point for point in rest if not dominated(point)}
        assert {point for point in found if number[point] == expected} == front
        rest, expected = rest - front, expected + 1


@given(values, st.randoms(use_true_random=False))
def test_the_order_depends_on_the_points_alone(found: list[Any], chance: Any) -> None:
    keys = dict(zip(found, pareto_order(found), strict=True))
    shuffled = chance.sample(found, len(found))
    assert pareto_order(shuffled) == [keys[point] for point in shuffled]


def test_the_ends_of_a_front_and_its_lonely_points_come_first() -> None:
    front = [(0.0, 9.0), (1.0, 8.0), (2.0, 7.0), (6.0, 3.0), (9.0, 0.0)]
    ranked = sorted(zip(pareto_order(front), front, strict=True), reverse=True)
    assert {point for _, point in ranked[:2]} == {front[0], front[-1]}
    assert [point for _, point in ranked[2:]] == [front[3], front[2], front[1]]


def test_one_objective_orders_by_its_values() -> None:
    assert pareto_order([(2.0,), (1.0,), (2.0,)]) == [(2.0,), (1.0,), (2.0,)]
    assert pareto_order([]) == []


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
    assert objective_values(BOTH, {"val_accuracy": 0.5}, {"parameters": 100.0}) == (0.5, 100.0)


def test_a_value_that_was_not_measured_leaves_no_result() -> None:
    assert objective_values(BOTH, {"val_accuracy": 0.5}, {}) is None


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_scores_turn_so_that_more_is_better(direction: Any) -> None:
    objective = replace(ACCURACY, direction=direction)
    better, worse = (2.0, 1.0) if direction == "maximize" else (1.0, 2.0)
    assert objective.score(better) > objective.score(worse)
