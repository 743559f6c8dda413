"""Successive halving, decided from what was recorded."""

import random
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.studies import a_trial

from orchestrator.objective import Objective, main_objective, pareto_order, rung_objectives
from orchestrator.pruning.promotions import is_promoted
from orchestrator.pruning.scores import score_at
from orchestrator.sampling.halving import Halving
from orchestrator.trial import Trial, TrialState
from workers.budget import Budget
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
LOSS = Objective(metric="val_loss", direction="minimize")
SIZE = Objective(metric="parameters", direction="minimize")

scores = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=30)
factors = st.integers(2, 5)


def curve(number: int, *values: float, metric: str = "val_accuracy", kind: str = "search") -> Trial:
    seen = tuple(
        Measurement(fidelity=epoch, metrics={metric: value}, elapsed_s=1.0)
        for epoch, value in enumerate(values, start=1)
    )
    return a_trial(number, measurements=seen, kind=kind)


def history_of(found: list[float]) -> dict[str, float]:
    return {str(index): score for index, score in enumerate(found)}


@given(scores, factors)
def test_the_best_at_a_rung_always_goes_on(found: list[float], factor: int) -> None:
    assert is_promoted(history_of(found), str(found.index(max(found))), factor)


@given(scores, factors)
def test_whoever_is_better_goes_on_wherever_the_worse_does(found: list[float], factor: int) -> None:
    history = history_of(found)
    passed = [history[name] for name in history if is_promoted(history, name, factor)]
    stopped = [history[name] for name in history if not is_promoted(history, name, factor)]
    assert not passed or not stopped or min(passed) > max(stopped)


@given(scores, factors, st.randoms(use_true_random=False))
def test_the_order_of_the_history_does_not_matter(
    found: list[float], factor: int, chance: Any
) -> None:
    history = history_of(found)
    names = chance.sample(list(history), len(history))
    shuffled = {name: history[name] for name in names}
    assert [is_promoted(history, n, factor) for n in history] == [
        is_promoted(shuffled, n, factor) for n in history
    ]


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=40, unique=True), factors)
def test_without_ties_one_in_so_many_goes_on(found: list[int], factor: int) -> None:
    history = history_of([float(value) for value in found])
    passed = sum(is_promoted(history, name, factor) for name in history)
    assert passed == max(1, len(found) // factor)


def test_the_second_is_judged_against_the_first() -> None:
    assert is_promoted({"a": 0.1, "b": 0.9}, "b", 3)
    assert not is_promoted({"a": 0.1, "b": 0.9}, "a", 3)


def test_a_trial_is_judged_by_its_best_epoch_up_to_the_rung() -> None:
    assert score_at(curve(1, 0.5, 0.9, 0.4, 1.0).measurements, 3, ACCURACY) == 0.9


def test_a_loss_is_judged_by_its_smallest_value() -> None:
    assert score_at(curve(1, 0.5, 0.2, 0.4, metric="val_loss").measurements, 3, LOSS) == -0.2


def test_what_was_never_measured_has_no_score() -> None:
    assert score_at(curve(1, 0.5).measurements, 1, LOSS) is None


def test_a_cost_does_not_judge_rungs() -> None:
    assert main_objective((SIZE, LOSS, ACCURACY)) == LOSS
    assert main_objective((SIZE,)) == ACCURACY


def test_rungs_compare_all_objectives_of_a_study_that_trains_for_one() -> None:
    assert rung_objectives((ACCURACY,)) == (ACCURACY,)
    assert rung_objectives((SIZE, ACCURACY)) == (SIZE, ACCURACY)
    assert rung_objectives((SIZE,)) == (ACCURACY,)


FAILED = a_trial(0, state=TrialState.FAIL)
"""A reference without a curve, so that every rung judges."""
NEVER = 10**9


def halving_over(*trials: Trial, objectives: tuple[Objective, ...] = (ACCURACY,)) -> Halving:
    budget = Budget(minimum=1, maximum=9, reduction_factor=3)
    halving = Halving(budget, objectives, audit_every=NEVER)
    for trial in (FAILED, *trials):
        halving.observe(trial)
    return halving


def test_the_worst_of_three_is_stopped_at_the_first_rung() -> None:
    worst = curve(3, 0.1)
    halving = halving_over(curve(1, 0.5), curve(2, 0.6), worst)
    assert not halving.promotes(worst, 1)


def test_between_rungs_nobody_is_stopped() -> None:
    worst = curve(3, 0.1, 0.1)
    halving = halving_over(curve(1, 0.5, 0.5), curve(2, 0.6, 0.6), worst)
    assert halving.promotes(worst, 2)


def test_at_the_top_nobody_is_stopped() -> None:
    trials = [curve(number, *[number / 10] * 9) for number in range(1, 5)]
    halving = halving_over(*trials)
    assert all(halving.promotes(trial, 9) for trial in trials)


def test_the_reference_and_confirmations_run_to_the_top() -> None:
    reference, confirmation = curve(0, 0.1), curve(3, 0.1, kind="confirm")
    halving = halving_over(reference, curve(1, 0.5), curve(2, 0.6), confirmation)
    assert halving.promotes(reference, 1)
    assert halving.promotes(confirmation, 1)


def test_only_equal_fidelities_are_compared() -> None:
    late = curve(4, 0.1, 0.2, 0.3)
    halving = halving_over(curve(1, 0.9), curve(2, 0.9), curve(3, 0.9), late)
    assert halving.promotes(late, 3)


@given(st.lists(st.lists(few := st.integers(0, 9).map(float), min_size=1, max_size=9), max_size=9))
def test_rungs_rebuilt_from_the_end_are_those_seen_on_the_way(curves: list[list[float]]) -> None:
    on_the_way, rebuilt = halving_over(), halving_over()
    whole = [curve(number, *values) for number, values in enumerate(curves)]
    for number, values in enumerate(curves):
        for epoch in range(1, len(values) + 1):
            on_the_way.observe(curve(number, *values[:epoch]))
    for trial in whole:
        rebuilt.observe(trial)
    for trial in whole:
        assert [on_the_way.promotes(trial, rung) for rung in (1, 3)] == [
            rebuilt.promotes(trial, rung) for rung in (1, 3)
        ]


def sized(number: int, accuracy: float, parameters: float) -> Trial:
    return replace(curve(number, accuracy), cost={"parameters": parameters})


def test_a_rung_keeps_both_ends_of_the_front() -> None:
    large, small = sized(1, 0.9, 1e6), sized(2, 0.5, 1e3)
    dominated = [sized(number, 0.4, 1e5) for number in range(3, 9)]
    halving = halving_over(large, small, *dominated, objectives=(ACCURACY, SIZE))
    assert halving.promotes(large, 1)
    assert halving.promotes(small, 1)
    assert not any(halving.promotes(trial, 1) for trial in dominated)


pairs = st.lists(st.tuples(few, few), min_size=1, max_size=30)


@given(pairs, factors)
def test_whoever_dominates_goes_on_wherever_the_dominated_does(
    found: list[tuple[float, float]], factor: int
) -> None:
    keys = dict(zip(map(str, range(len(found))), pareto_order(found), strict=True))
    passed = {name for name in keys if is_promoted(keys, name, factor)}
    assert passed
    for name, (first, second) in enumerate(found):
        for other, (third, fourth) in enumerate(found):
            if first >= third and second >= fourth and str(other) in passed:
                assert str(name) in passed


@given(pairs, factors)
def test_two_objectives_pass_no_more_than_the_rung_has_places_and_the_ends_of_a_front(
    found: list[tuple[float, float]], factor: int
) -> None:
    keys = dict(enumerate(pareto_order(sorted(set(found)))))
    named = {str(name): key for name, key in keys.items()}
    passed = sum(is_promoted(named, name, factor) for name in named)
    places = max(1, len(named) // factor)
    assert places <= passed
    tied = max(list(named.values()).count(key) for key in named.values())
    assert passed < places + tied


def test_survivors_of_both_objectives_cover_more_than_those_of_the_first() -> None:
    for seed in range(5):
        chance = random.Random(seed)
        trials = []
        for number in range(1, 91):
            size = chance.uniform(0.0, 1.0)
            trials.append(sized(number, max(0.0, size**0.5 - chance.uniform(0.0, 0.5)), size))
        both, first = (survivors(trials, judges) for judges in ([ACCURACY, SIZE], [ACCURACY]))
        assert abs(len(both) - len(first)) < 10
        assert hypervolume(both) > 1.05 * hypervolume(first)


def survivors(trials: list[Trial], judges: list[Objective]) -> list[Trial]:
    budget = Budget(minimum=1, maximum=3, reduction_factor=3)
    halving, passed = Halving(budget, judges, audit_every=NEVER), []
    for trial in trials:
        halving.observe(trial)
        passed += [trial] if halving.promotes(trial, 1) else []
    return passed


def hypervolume(trials: list[Trial]) -> float:
    """Area between the front and the reference of accuracy 0 and size 1."""
    area, reached = 0.0, 1.0
    points = [(t.measurements[-1].metrics["val_accuracy"], t.cost["parameters"]) for t in trials]
    for accuracy, size in sorted(points, reverse=True):
        area += accuracy * max(0.0, reached - size)
        reached = min(reached, size)
    return area
