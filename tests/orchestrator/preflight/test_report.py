"""Samplers that are given too few complete trials to learn from."""

import random

import pytest
from support.studies import config

from orchestrator.preflight.report import idle_sampler
from orchestrator.pruning.promotions import expected_complete, is_promoted
from workers.budget import Budget

NONE = {"name": "none"}
BUDGET = Budget(minimum=1, maximum=9, reduction_factor=3)


def completed(trials: int, seed: int) -> int:
    """Trials that pass all rungs with scores by chance."""
    chance, complete = random.Random(seed), 0
    rungs: list[dict[str, float]] = [{} for _ in BUDGET.rungs()[:-1]]
    for number in range(trials):
        score = chance.random()
        for rung in rungs:
            rung[str(number)] = score
            if not is_promoted(rung, str(number), BUDGET.reduction_factor):
                break
        else:
            complete += 1
    return complete


@pytest.mark.parametrize("trials", [1, 20, 100, 300])
def test_the_expected_number_is_near_the_mean_of_many_studies(trials: int) -> None:
    mean = sum(completed(trials, seed) for seed in range(40)) / 40
    assert expected_complete(trials, BUDGET) == pytest.approx(mean, abs=2.5)


def test_a_long_budget_is_judged_as_quickly_as_a_short_one() -> None:
    halvings = Budget(minimum=1, maximum=1_000_000, reduction_factor=2)
    assert expected_complete(10**12, halvings) == pytest.approx(10**12 / 2**20, rel=1e-3)
    few = config(
        sampler={"name": "nsga2"},
        budget={"minimum": 1, "maximum": 1_000_000, "reduction_factor": 2},
    )
    assert "about 2 of 15 trials" in str(idle_sampler(few))


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "gp"])
def test_a_sampler_that_cannot_learn_is_told_with_what_would_do(sampler: str) -> None:
    few = config(sampler={"name": sampler}, stop={"trials": 60})
    text = idle_sampler(few)
    assert text is not None
    assert f"sampler.name: {sampler} learns from complete trials alone" in text
    assert "sampler.name: auto" in text
    assert "pruner.name: none" in text
    enough = int(text.split("stop.trials: ")[1].split(";")[0].replace(",", "").rstrip("."))
    assert idle_sampler(config(sampler={"name": sampler}, stop={"trials": enough})) is None
    assert (
        idle_sampler(few.model_copy(update={"pruner": config(pruner={"name": "none"}).pruner}))
        is None
    )


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_samplers_that_need_no_complete_trial_are_not_warned_of(sampler: str) -> None:
    assert idle_sampler(config(sampler={"name": sampler}, stop={"trials": 3})) is None


def test_without_a_number_of_trials_nothing_is_foreseen() -> None:
    assert idle_sampler(config(sampler={"name": "nsga2"}, stop={"hours": 1})) is None
