"""The sampler `auto`: what it learns from trials, and that it finds optima sooner than chance."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest
from support.studies import BRANCHING, a_trial, quality

from orchestrator.objective import Objective
from orchestrator.pruning.rank_correlation import rank_correlation
from orchestrator.sampling.auto_sampler import AutoSampler, AutoSuggestion
from orchestrator.sampling.candidates import Space
from orchestrator.sampling.encoding import dense
from orchestrator.sampling.mutation import MutatingSuggester
from orchestrator.sampling.optuna_sampler import OptunaSampler
from orchestrator.sampling.proposal_model import MIN_RESULTS, ProposalModel
from orchestrator.sampling.screening import counted_samples
from orchestrator.trial import Trial, TrialState
from search_spaces.catalog import example, load
from search_spaces.derivation import derive
from search_spaces.domains.edits import SpaceEdits
from search_spaces.domains.suggester import ReplaySuggester
from search_spaces.space import Constraint, DefineByRunSpace
from workers.budget import Budget
from workers.measurement import Measurement

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
SIZE = Objective(metric="parameters", direction="minimize")
Evaluation = Callable[[dict[str, Any]], tuple[float, dict[str, float]]]
"""Returns accuracy and costs of decisions."""


def new_sampler(
    space: Space = BRANCHING, *objectives: Objective, seed: int = 0, **parts: Any
) -> AutoSampler:
    return AutoSampler(
        space=space,
        objectives=objectives or (ACCURACY,),
        budget=Budget(minimum=1, maximum=9),
        seed=seed,
        **parts,
    )


def test_neighbors_of_trials_outside_the_space_are_inside() -> None:
    wide = load("hybrid")
    edits = SpaceEdits(fix={"stages.0": "gate"}, narrow={"stages.1.width": [64, 96]})
    narrow = derive(wide, edits)
    sampler = new_sampler(narrow)
    for number in range(MIN_RESULTS):
        suggestion = AutoSuggestion(MutatingSuggester({}, (), random.Random(number)))
        wide.resolve(suggestion.suggester)
        params, distributions = suggestion.params, suggestion.distributions
        trial = a_trial(
            number,
            params=params,
            distributions=distributions,
            state=TrialState.COMPLETE,
            values=(number / 10,),
            measurements=curve(number / 10),
        )
        sampler.add_open(trial)
    for resample in range(100):
        replay = ReplaySuggester(sampler.sample(MIN_RESULTS, resample).params)
        narrow.resolve(replay)
        assert not replay.unused()


def search(
    sampler: Any, evaluate: Evaluation, trials: int, objectives: Sequence[Objective] = (ACCURACY,)
) -> list[Trial]:
    """Lets a sampler propose trials that complete."""
    found = []
    for number in range(trials):
        suggestion = sampler.sample(number, 0)
        decisions = BRANCHING.function(suggestion.suggester)
        accuracy, cost = evaluate(dict(decisions or {}))
        trial = a_trial(
            number,
            params=suggestion.params,
            distributions=suggestion.distributions,
            state=TrialState.COMPLETE,
            values=tuple(cost.get(o.metric, accuracy) for o in objectives),
            measurements=curve(accuracy),
            cost=cost,
        )
        sampler.keep(suggestion, trial.uid, number)
        sampler.tell(trial)
        found.append(trial)
    return found


def curve(end: float, epochs: int = 9, *, seconds: float = 1.0) -> tuple[Measurement, ...]:
    return tuple(
        Measurement(
            fidelity=epoch,
            metrics={"val_accuracy": end * (0.5 + epoch / 18)},
            elapsed_s=seconds * epoch,
        )
        for epoch in range(1, epochs + 1)
    )


def accurate(decisions: dict[str, Any]) -> tuple[float, dict[str, float]]:
    return quality(decisions), {"flops": 1e6, "parameters": 10.0 + 10 * decisions["depth"]}


def deep(decisions: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """Accuracy grows with depth, and so do the parameters."""
    depth = decisions["depth"]
    return quality(decisions) + 0.1 * depth, {"parameters": 10.0 + 10 * depth}


def random_trials(count: int, evaluate: Evaluation = accurate) -> list[Trial]:
    sampler = OptunaSampler(sampler="random", objectives=(ACCURACY,), seed=0)
    return search(sampler, evaluate, count)


def params_at(sampler: AutoSampler, number: int) -> list[dict[str, Any]]:
    """The next proposal and its resamples."""
    return [sampler.sample(number, resample).params for resample in range(8)]


def best_of(trials: Sequence[Trial]) -> float:
    return max(trial.values[0] for trial in trials if trial.values)


def test_it_finds_the_optimum_sooner_than_random_samples() -> None:
    """After 30 trials, over paired seeds, the mean regret is less than half."""
    top, ours, random = 0.98, [], []
    for seed in range(6):
        ours.append(best_of(search(new_sampler(seed=seed), accurate, 30)))
        other = OptunaSampler(sampler="random", objectives=(ACCURACY,), seed=seed)
        random.append(best_of(search(other, accurate, 30)))
    assert top - fmean(ours) < 0.5 * (top - fmean(random))


def test_every_proposal_resolves_and_is_new() -> None:
    sampler = new_sampler()
    known = [trial.params for trial in search(sampler, accurate, 12)]
    for params in params_at(sampler, 12):
        BRANCHING.resolve(ReplaySuggester(params))
        assert params not in known
        known.append(params)


def test_resamples_are_the_next_best_of_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = new_sampler()
    search(sampler, accurate, 12)
    ranked = params_at(sampler, 12)
    asked: list[Any] = []
    monkeypatch.setattr(AutoSampler, "_space", property(asked.append), raising=False)
    assert params_at(sampler, 12) == ranked
    assert not asked


def test_past_the_pool_samples_are_uniform() -> None:
    sampler = new_sampler()
    far = [sampler.sample(0, 1000 + n) for n in range(2)]
    rates = [BRANCHING.resolve(each.suggester).decisions["rate"] for each in far]
    assert rates[0] != rates[1]


def test_fixed_decisions_are_kept() -> None:
    sampler = new_sampler()
    search(sampler, accurate, 12)
    suggestion = sampler.sample(12, 0, {"kind": "steep", "depth": 3, "unknown": 1})
    decisions = BRANCHING.resolve(suggestion.suggester).decisions
    assert (decisions["kind"], decisions["depth"]) == ("steep", 3)


def test_low_fidelity_results_teach_it() -> None:
    """From trials that were stopped at a rung, the model ranks others as their ends do."""

    def rising(decisions: dict[str, Any]) -> tuple[float, dict[str, float]]:
        return 0.9 + math.log10(decisions["rate"]) / 8, {"flops": 1e6}

    sampler = new_sampler()
    for trial in random_trials(24, rising):
        stopped = replace(trial, values=None, measurements=trial.measurements[:3])
        sampler.add_open(replace(stopped, state=TrialState.PRUNED, reason="rung"))
    model = ProposalModel(sampler._history, sampler._targets, 0)
    others = [MutatingSuggester({}, (), random.Random(seed)) for seed in range(100, 140)]
    truth = [rising(dict(BRANCHING.function(other) or {}))[0] for other in others]
    encodings = [model._encoder.encode(other.params, other.questions) for other in others]
    predicted, _ = model._score_models[0].predict(dense(encodings, model._encoder.width))
    correlation = rank_correlation(truth, list(predicted))
    assert correlation is not None
    assert correlation > 0.7


def test_constraints_are_learned_from_infeasible_trials() -> None:
    """With 10 + 10 * depth parameters, at most 45 allow a depth of 3."""
    constraint = Constraint(metric="parameters", at_most=45)
    shares = []
    for constraints in ((), (constraint,)):
        sampler = new_sampler(constraints=constraints)
        for trial in random_trials(24, deep):
            violation = constraint.violation(trial.cost["parameters"])
            known = replace(trial, violations={"parameters": violation})
            if violation > 0:
                unknown = {"values": None, "measurements": (), "reason": "infeasible"}
                known = replace(known, state=TrialState.PRUNED, **unknown)
            sampler.add_open(known if constraints else trial)
        proposed = [sampler.sample(n, 0).params.get("depth", 0) for n in range(24, 40)]
        shares.append(sum(depth <= 3 for depth in proposed) / len(proposed))
    assert shares[1] >= 0.9 > shares[0]


def test_cheap_candidates_are_preferred_at_equal_accuracy() -> None:
    def equal(decisions: dict[str, Any]) -> tuple[float, dict[str, float]]:
        return accurate({**decisions, "depth": 0})[0], {"flops": 10.0 ** decisions["depth"]}

    sampler = new_sampler()
    search(sampler, equal, 24)
    depths = [sampler.sample(n, 0).params.get("depth", 0) for n in range(24, 36)]
    assert fmean(depths) < 2


@pytest.mark.parametrize("counted", [True, False])
def test_the_clock_predicts_the_cost_only_where_flops_are_unknown(counted: bool) -> None:
    timed = [new_sampler(predict_from_clock=clock) for clock in (False, False, True, True)]
    history = search(new_sampler(), accurate, 16)
    for sampler, slow in zip(timed, (1.0, 50.0, 1.0, 50.0), strict=True):
        for trial in history:
            seconds = slow if trial.params["kind"] == "steep" else 1.0
            measured = curve((trial.values or (0,))[0], seconds=seconds)
            cost = trial.cost if counted else {}
            sampler.add_open(replace(trial, measurements=measured, cost=cost))
    proposed = [params_at(sampler, 16) for sampler in timed]
    assert proposed[0] == proposed[1]
    assert (proposed[2] == proposed[3]) == counted


def test_costs_are_counted_before_any_trial_is_known() -> None:
    """A bound on the size is met by the first ranked samples, though no trial has violated it."""
    task, space = example("tiny"), load("tiny")
    sizes = [sample.cost["parameters"] for sample in counted_samples(space, task, range(32))]
    bound = Constraint(metric="parameters", at_most=sorted(sizes)[4])
    shares = []
    for given in (task, None):
        sampler = new_sampler(space, constraints=(bound,), task=given)
        candidates = [space.resolve(sampler.sample(number, 0).suggester) for number in range(12)]
        met = [candidate.cost(task)["parameters"] <= bound.at_most for candidate in candidates]
        shares.append(sum(met) / len(met))
    assert shares[0] >= 0.9 > shares[1]


def test_diverged_trials_are_avoided() -> None:
    sampler = new_sampler()
    for trial in random_trials(24):
        diverged = replace(trial, state=TrialState.PRUNED, reason="diverged", values=None)
        sampler.add_open(diverged if trial.params["rate"] > 1e-3 else trial)
    rates = [sampler.sample(n, 0).params["rate"] for n in range(24, 36)]
    assert sum(rate <= 2e-3 for rate in rates) >= 10


def test_failures_of_the_machine_say_nothing_about_the_candidate() -> None:
    history = search(new_sampler(), accurate, 12)
    lost = replace(history[5], state=TrialState.FAIL, reason="infrastructure", values=None)
    lost = replace(lost, measurements=())
    without, broken, bad = new_sampler(), new_sampler(), new_sampler()
    failed = replace(lost, reason="user_code")
    for sampler, last in ((without, ()), (broken, (lost,)), (bad, (failed,))):
        for trial in (*history[:5], *history[6:], *last):
            sampler.add_open(trial)
    first = [sampler.sample(12, 0).params for sampler in (without, broken, bad)]
    assert first[0] == first[1] != first[2]


def test_waiting_and_running_trials_are_not_proposed_again() -> None:
    sampler = new_sampler()
    search(sampler, accurate, 12)
    kept = []
    for number in range(12, 18):
        suggestion = sampler.sample(number, 0)
        BRANCHING.resolve(suggestion.suggester)
        sampler.keep(suggestion, f"{number:032x}", number)
        kept.append(suggestion.params)
    assert all(kept[i] != kept[j] for i in range(6) for j in range(i))


def test_both_ends_of_a_front_are_found() -> None:
    sampler = new_sampler(BRANCHING, ACCURACY, SIZE)
    trials = search(sampler, deep, 40, (ACCURACY, SIZE))[20:]
    depths = [trial.params.get("depth", 0) for trial in trials]
    assert min(depths) == 0
    assert max(depths) >= 7


def test_scores_are_predicted_once_there_are_enough_results() -> None:
    sampler = new_sampler()
    predicted = []
    for count in (MIN_RESULTS - 1, MIN_RESULTS):
        sampler = new_sampler()
        search(sampler, accurate, count)
        model = ProposalModel(sampler._history, sampler._targets, 0)
        predicted.append(model.predicts_scores)
    assert predicted == [False, True]


def test_a_space_that_raises_is_reported_as_it_is() -> None:
    def failing(suggester: Any) -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        new_sampler(DefineByRunSpace(name="x", version="1", function=failing)).sample(0, 0)
