"""Trials reach Optuna in its own states, and equal histories sample equally."""

from dataclasses import replace
from typing import Any

import pytest
from optuna.trial import TrialState as OptunaState
from support.studies import a_trial, branching

from orchestrator.objective import Objective
from orchestrator.sampling.optuna_sampler import OptunaSampler, _good_and_bad
from orchestrator.sampling.sampler import MAX_RESAMPLES
from orchestrator.seeds import derive_seed
from orchestrator.trial import Trial, TrialState
from search_spaces.domains import FloatRange, IntRange
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
SIZE = Objective(metric="parameters", direction="minimize")


DISTRIBUTIONS = {
    "kind": '{"name": "CategoricalDistribution", "attributes": {"choices": ["flat", "steep"]}}',
    "rate": '{"name": "FloatDistribution", "attributes": '
    '{"step": null, "low": 0.0001, "high": 1.0, "log": true}}',
}
EXPECTED = {
    "rate": FloatRange(1e-4, 1.0, log=True, prior=0.5, confidence="high"),
    "depth": IntRange(1, 8, prior=8, confidence="high"),
}


def new_sampler(
    sampler: str = "tpe", *objectives: Objective, seed: int = 0, expected: Any = None
) -> OptunaSampler:
    return OptunaSampler(
        sampler=sampler, objectives=objectives or (ACCURACY,), seed=seed, expected=expected
    )


def curve(*values: float) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(fidelity=epoch, metrics={"val_accuracy": value}, elapsed_s=1.0)
        for epoch, value in enumerate(values, start=1)
    )


def sampled(source: OptunaSampler, number: int, resample: int = 0) -> dict[str, Any]:
    suggestion = source.sample(number, resample)
    branching(suggestion.suggester)
    source.discard(suggestion)
    return suggestion.params


def history(length: int, *, values: int = 1) -> list[Trial]:
    source, found = new_sampler("random"), []
    for number in range(length):
        suggestion = source.sample(number, 0)
        branching(suggestion.suggester)
        source.discard(suggestion)
        found.append(
            a_trial(
                number,
                params=suggestion.params,
                distributions=suggestion.distributions,
                state=TrialState.COMPLETE,
                values=tuple(float(number % 7) for _ in range(values)),
                measurements=curve(number % 7),
            )
        )
    return found


def as_reported(trial: Trial, *objectives: Objective) -> Any:
    source = new_sampler("tpe", *objectives)
    source.rebuild([trial])
    return source._study.trials[0]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "nsga3", "gp"])
def test_equal_histories_and_seeds_draw_alike(sampler: str) -> None:
    past = history(12)
    one, other = new_sampler(sampler), new_sampler(sampler)
    for source in (one, other):
        source.rebuild(past)
    sampled(other, 99)  # what was dropped before leaves no trace
    assert sampled(one, 12) == sampled(other, 12)


def expecting(sampler: str, results: int) -> list[dict[str, Any]]:
    """Samples of many studies that expect high rates, with this many low-rated results so far."""
    past = [replace(trial, uid=f"p{trial.number}") for trial in history(results)]
    samples = []
    for seed in range(40):
        source = new_sampler(sampler, seed=seed, expected=EXPECTED)
        source.rebuild(past)
        samples.append(sampled(source, results))
    return samples


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2", "nsga3", "gp"])
def test_early_draws_follow_the_priors(sampler: str) -> None:
    samples = expecting(sampler, 0)
    assert sum(draw["rate"] > 0.03 for draw in samples) > 25  # 15 without a prior
    depths = [draw["depth"] for draw in samples if "depth" in draw]
    assert 10 < len(depths) < 30, "the conditional decision is asked for only where it applies"
    assert sum(depth > 5 for depth in depths) > len(depths) / 2


def test_results_outweigh_the_priors() -> None:
    early, late = (
        sum(draw["rate"] > 0.03 for draw in expecting("random", results)) for results in (0, 200)
    )
    assert late < 22 < early


def test_priors_leave_the_distributions_as_they_are() -> None:
    plain, expectant = new_sampler(), new_sampler(expected=EXPECTED)
    for source in (plain, expectant):
        suggestion = source.sample(0, 0)
        suggestion.suggester.suggest_float("rate", 1e-4, 1.0, log=True)
        source.keep(suggestion, "u", 0)
        source.attributes(suggestion)
        assert suggestion.distributions == {
            "rate": '{"name": "FloatDistribution", "attributes": '
            '{"step": null, "low": 0.0001, "high": 1.0, "log": true}}'
        }


def test_a_draw_with_priors_depends_on_seed_and_number_alone() -> None:
    one, other = (new_sampler(expected=EXPECTED) for _ in range(2))
    for source in (one, other):
        source.rebuild(history(3))
    sampled(other, 99)
    assert [sampled(one, n) for n in range(3, 9)] == [sampled(other, n) for n in range(3, 9)]


def test_redraws_and_numbers_and_seeds_draw_apart() -> None:
    samples = [
        sampled(new_sampler(), 0),
        sampled(new_sampler(), 1),
        sampled(new_sampler(), 0, 1),
        sampled(new_sampler(seed=1), 0),
    ]
    assert len({draw["rate"] for draw in samples}) == 4


def test_late_redraws_ignore_the_model() -> None:
    modeled, fresh = new_sampler(), new_sampler("random")
    modeled.rebuild(history(12))
    assert sampled(modeled, 12, MAX_RESAMPLES) == sampled(fresh, 12, MAX_RESAMPLES)


def test_a_complete_trial_is_told_with_its_value() -> None:
    seen = as_reported(
        a_trial(0, state=TrialState.COMPLETE, values=(0.9,), measurements=curve(0.5, 0.9))
    )
    assert (seen.state, seen.values) == (OptunaState.COMPLETE, [0.9])


def test_a_stopped_trial_is_told_with_the_steps_it_reported() -> None:
    seen = as_reported(
        a_trial(0, state=TrialState.PRUNED, reason="rung", measurements=curve(0.5, 0.6))
    )
    assert (seen.state, seen.intermediate_values) == (OptunaState.PRUNED, {1: 0.5, 2: 0.6})


@pytest.mark.parametrize(
    ("reason", "violations", "constraints"),
    [
        ("infeasible", {"parameters": 0.5}, {"parameters": 0.5}),
        ("diverged", {}, {"diverged": 1.0}),
    ],
)
def test_what_must_not_come_again_is_told_without_value_and_with_its_constraint(
    reason: str, violations: dict[str, float], constraints: dict[str, float]
) -> None:
    trial = a_trial(
        0, state=TrialState.PRUNED, reason=reason, violations=violations, measurements=curve(0.9)
    )
    seen = as_reported(trial)
    assert (seen.state, seen.values, seen.intermediate_values) == (OptunaState.PRUNED, None, {})
    assert seen.constraints == constraints


def stopped(number: int, steps: int, accuracy: float, size: float, rate: float = 0.1) -> Trial:
    """A trial of two objectives that a rung stopped."""
    return a_trial(
        number,
        state=TrialState.PRUNED,
        reason="rung",
        params={"kind": "flat", "rate": rate},
        distributions=DISTRIBUTIONS,
        measurements=curve(*[accuracy] * steps),
        cost={"parameters": size},
    )


def test_with_several_objectives_a_stopped_trial_is_told_with_its_last_values() -> None:
    seen = as_reported(stopped(0, 2, 0.5, 300.0), ACCURACY, SIZE)
    assert (seen.state, seen.values, seen.intermediate_values) == (OptunaState.PRUNED, None, {})
    assert seen.user_attrs == {"reached": (2, (0.5, 300.0))}


def good_of(trials: list[Trial]) -> list[int]:
    """The trials that TPE with two objectives takes for good."""
    source = new_sampler("tpe", ACCURACY, SIZE)
    source.rebuild(trials)
    good, bad = _good_and_bad(source._study.trials, source._study.directions)
    assert sorted(t.number for t in (*good, *bad)) == [t.number for t in trials]
    return [t.number for t in good]


def test_tpe_takes_the_further_trained_and_of_these_the_nondominated_for_good() -> None:
    complete = a_trial(0, state=TrialState.COMPLETE, values=(0.1, 9e9), measurements=curve(0.1))
    far = [stopped(1, 3, 0.5, 900.0), stopped(2, 3, 0.4, 400.0), stopped(3, 3, 0.3, 500.0)]
    near = [stopped(n, 1, 0.6 + n / 100, 100.0 + n) for n in range(4, 24)]
    nothing = a_trial(24, state=TrialState.PRUNED, reason="diverged")
    infeasible = a_trial(
        25, state=TrialState.PRUNED, reason="infeasible", violations={"parameters": 0.1}
    )
    running = a_trial(26, state=TrialState.RUNNING)
    assert good_of([complete, *far, *near, nothing, infeasible, running]) == [0, 1, 2]


def test_every_objective_of_stopped_trials_teaches_tpe() -> None:
    """Rates from 1e-4 to 1, better in one objective only: where they are small, or large."""
    rates = [10 ** (-4 + number / 10) for number in range(40)]
    for sign, wanted in ((1, range(15)), (-1, range(25, 40))):
        past = [stopped(n, 1, 0.5, 100.0 + sign * n, rate) for n, rate in enumerate(rates)]
        source = new_sampler("tpe", ACCURACY, SIZE)
        source.rebuild(past)
        low, high = rates[wanted[0]], rates[wanted[-1]]
        near = sum(low <= sampled(source, number)["rate"] <= high * 1.3 for number in range(40, 60))
        assert near > 15, "by chance 7 or 8"


@pytest.mark.parametrize("state", [TrialState.WAITING, TrialState.RUNNING])
def test_unfinished_trials_count_as_pending(state: TrialState) -> None:
    assert as_reported(a_trial(0, state=state)).state == OptunaState.RUNNING


def test_duplicates_are_not_told() -> None:
    source = new_sampler()
    source.rebuild([a_trial(0, state=TrialState.COMPLETE, values=(0.9,), reason="duplicate")])
    assert source._study.trials == []


def test_parameters_survive_the_rebuilding() -> None:
    past = history(3)
    source = new_sampler()
    source.rebuild(past)
    assert [t.params for t in source._study.trials] == [t.params for t in past]


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "nsga3", "gp"])
def test_every_sampler_takes_several_objectives(sampler: str) -> None:
    source = new_sampler(sampler, ACCURACY, SIZE)
    source.rebuild(history(12, values=2))
    assert set(sampled(source, 12)) >= {"kind", "rate"}


def test_optuna_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    sampled(new_sampler(), 0)
    assert capfd.readouterr() == ("", "")


def test_seeds_depend_on_every_part() -> None:
    seeds = {derive_seed(0, 1), derive_seed(1, 0), derive_seed(0, "draw", 1), derive_seed(0, 11)}
    assert len(seeds) == 4
    assert derive_seed(0, 1) == derive_seed(0, 1)
    assert all(0 <= seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    ("measurements", "state"), [(curve(0.5, 0.4), OptunaState.PRUNED), ((), OptunaState.FAIL)]
)
def test_a_trial_that_its_user_stopped_counts_with_what_it_reported(
    measurements: Any, state: OptunaState
) -> None:
    optuna_sampler = new_sampler()
    stopped = replace(
        history(1)[0], state=TrialState.PRUNED, reason="operator", measurements=measurements
    )
    optuna_sampler.rebuild([stopped])
    [recorded] = optuna_sampler._study.trials
    assert recorded.state is state
    values = {seen.fidelity: seen.metrics["val_accuracy"] for seen in measurements}
    assert recorded.intermediate_values == values
    assert not recorded.constraints
