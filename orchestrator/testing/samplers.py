"""Contract of samplers: equal histories sample equally, and every trial counts once."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.objective import Objective
from orchestrator.sampling.sampler import Sampler
from orchestrator.trial import Trial, TrialState
from search_spaces.domains.suggester import Suggester
from search_spaces.space import DefineByRunSpace
from workers.measurement import Measurement

MakeSampler = Callable[[int, tuple[Objective, ...]], Sampler[Any]]
"""Builds a sampler from a seed and the study's objectives."""

ACCURACY = Objective(metric="val_accuracy", direction="maximize")
SIZE = Objective(metric="parameters", direction="minimize")
TRIALS = 12


class SamplerContract:
    """Tests of a sampler; a subclass gives the fixture `make_sampler`."""

    @pytest.fixture
    def make_sampler(self) -> MakeSampler:
        """Return a function that builds the sampler under test."""
        raise NotImplementedError("give a fixture `make_sampler`")

    def test_equal_histories_and_seeds_sample_equally(self, make_sampler: MakeSampler) -> None:
        history = play(make_sampler(0, (ACCURACY,)), TRIALS)
        one, other = make_sampler(0, (ACCURACY,)), make_sampler(0, (ACCURACY,))
        for sampler in (one, other):
            sampler.rebuild(history)
        discarded = other.sample(99, 0)
        decide(discarded.suggester)
        other.discard(discarded)  # leaves no trace
        assert sample(one, TRIALS) == sample(other, TRIALS)

    def test_a_rebuilt_sampler_continues_as_the_uninterrupted_one(
        self, make_sampler: MakeSampler
    ) -> None:
        sampler = make_sampler(0, (ACCURACY,))
        history = play(sampler, TRIALS)
        resumed = make_sampler(0, (ACCURACY,))
        resumed.rebuild(history)
        assert [sample(resumed, n) for n in range(TRIALS, TRIALS + 3)] == [
            sample(sampler, n) for n in range(TRIALS, TRIALS + 3)
        ]

    def test_numbers_resamples_and_seeds_sample_differently(
        self, make_sampler: MakeSampler
    ) -> None:
        rates = {
            sample(make_sampler(seed, (ACCURACY,)), number, resample)["rate"]
            for seed, number, resample in ((0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0))
        }
        assert len(rates) == 4

    def test_given_decisions_are_kept_and_the_rest_is_sampled(
        self, make_sampler: MakeSampler
    ) -> None:
        suggestion = make_sampler(0, (ACCURACY,)).sample(0, 0, {"kind": "deep", "depth": 3})
        decide(suggestion.suggester)
        assert suggestion.params["kind"] == "deep"
        assert suggestion.params["depth"] == 3
        assert 1e-4 <= suggestion.params["rate"] <= 1.0

    def test_conditional_decisions_are_sampled_only_where_they_apply(
        self, make_sampler: MakeSampler
    ) -> None:
        sampler = make_sampler(0, (ACCURACY,))
        for trial in play(sampler, TRIALS):
            assert ("depth" in trial.params) == (trial.params["kind"] == "deep")
            assert {*trial.distributions} == {*trial.params}

    def test_attributes_are_json(self, make_sampler: MakeSampler) -> None:
        for trial in play(make_sampler(0, (ACCURACY,)), TRIALS):
            assert json.loads(json.dumps(trial.sampler_attrs)) == trial.sampler_attrs

    def test_every_kind_of_outcome_is_accepted(self, make_sampler: MakeSampler) -> None:
        sampler = make_sampler(0, (ACCURACY,))
        reasons = ("infeasible", "diverged", "rung", "user_code", "operator")
        for number, reason in enumerate(reasons):
            state = TrialState.FAIL if reason == "user_code" else TrialState.PRUNED
            violations = {"parameters": 0.5} if reason == "infeasible" else {}
            conclude(sampler, number, state=state, reason=reason, violations=violations)
        assert {"kind", "rate"} <= {*sample(sampler, len(reasons))}

    def test_a_study_that_was_resumed_while_a_trial_trains_continues_equally(
        self, make_sampler: MakeSampler
    ) -> None:
        sampler = make_sampler(0, (ACCURACY,))
        history = play(sampler, TRIALS)
        paused = start(sampler, TRIALS)
        for reached in (1, 3):
            paused = replace(paused, measurements=curve(reached))
            sampler.observe(paused)
        resumed = make_sampler(0, (ACCURACY,))
        resumed.rebuild([*history, replace(paused, state=TrialState.WAITING)])
        assert sample(resumed, TRIALS + 1) == sample(sampler, TRIALS + 1)
        for each in (sampler, resumed):
            each.tell(replace(paused, state=TrialState.PRUNED, reason="rung"))
        assert sample(resumed, TRIALS + 1) == sample(sampler, TRIALS + 1)

    def test_observing_a_trial_twice_changes_nothing(self, make_sampler: MakeSampler) -> None:
        once, twice = make_sampler(0, (ACCURACY,)), make_sampler(0, (ACCURACY,))
        for sampler, times in ((once, 1), (twice, 2)):
            play(sampler, TRIALS)
            trial = start(sampler, TRIALS)
            for _ in range(times):
                sampler.observe(replace(trial, measurements=curve(3)))
        assert sample(once, TRIALS + 1) == sample(twice, TRIALS + 1)

    def test_several_objectives_are_accepted(self, make_sampler: MakeSampler) -> None:
        sampler = make_sampler(0, (ACCURACY, SIZE))
        play(sampler, TRIALS, objectives=2)
        assert {"kind", "rate"} <= {*sample(sampler, TRIALS)}


def decide(suggester: Suggester) -> None:
    """Sample a small conditional space."""
    kind = suggester.suggest_categorical("kind", ["flat", "deep"])
    suggester.suggest_float("rate", 1e-4, 1.0, log=True)
    if kind == "deep":
        suggester.suggest_int("depth", 1, 8)


SPACE = DefineByRunSpace(name="contract", version="1", function=decide)
"""The space of `decide`, for samplers that need one."""


def sample(sampler: Sampler[Any], number: int, resample: int = 0) -> dict[str, Any]:
    """Return the decisions sampled for a trial that is then discarded."""
    suggestion = sampler.sample(number, resample)
    decide(suggestion.suggester)
    sampler.discard(suggestion)
    return dict(suggestion.params)


def play(sampler: Sampler[Any], trials: int, objectives: int = 1) -> list[Trial]:
    """Let a sampler propose trials that complete, and return them."""
    return [
        conclude(
            sampler,
            number,
            state=TrialState.COMPLETE,
            values=tuple(float(number % 7) for _ in range(objectives)),
        )
        for number in range(trials)
    ]


def curve(reached: int) -> tuple[Measurement, ...]:
    """Return measurements of each epoch up to one."""
    return tuple(
        Measurement(fidelity=e, metrics={"val_accuracy": e / 10}, elapsed_s=float(e))
        for e in range(1, reached + 1)
    )


def conclude(sampler: Sampler[Any], number: int, **outcome: Any) -> Trial:
    """Sample a trial, keep it and tell its outcome."""
    trial = replace(start(sampler, number), **outcome)
    sampler.tell(trial)
    return trial


def start(sampler: Sampler[Any], number: int) -> Trial:
    """Sample a trial and keep it, running and with a first measurement."""
    suggestion = sampler.sample(number, 0)
    decide(suggestion.suggester)
    attributes = sampler.attributes(suggestion)
    uid = f"{number:032x}"
    sampler.keep(suggestion, uid, number)
    return Trial(
        number=number,
        uid=uid,
        params=suggestion.params,
        distributions=suggestion.distributions,
        candidate={},
        digest=f"{number:064x}",
        seed=number,
        attempts=1,
        state=TrialState.RUNNING,
        sampler_attrs=attributes,
        measurements=(
            Measurement(fidelity=1, metrics={"val_accuracy": number % 7 / 7}, elapsed_s=1.0),
        ),
        cost={"parameters": 100.0 + number},
    )
