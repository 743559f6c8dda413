"""Contract of samplers: equal histories sample equally, and every trial counts once."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.objective import Objective
from orchestrator.sampling.sampler import Sampler, Suggestion
from orchestrator.trial import Trial, TrialState
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
        decide(discarded)
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
        decide(suggestion)
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
        reasons = ("infeasible", "diverged", "rung", "user_code")
        for number, reason in enumerate(reasons):
            state = TrialState.FAIL if reason == "user_code" else TrialState.PRUNED
            violations = {"parameters": 0.5} if reason == "infeasible" else {}
            conclude(sampler, number, state=state, reason=reason, violations=violations)
        assert {"kind", "rate"} <= {*sample(sampler, len(reasons))}

    def test_several_objectives_are_accepted(self, make_sampler: MakeSampler) -> None:
        sampler = make_sampler(0, (ACCURACY, SIZE))
        play(sampler, TRIALS, objectives=2)
        assert {"kind", "rate"} <= {*sample(sampler, TRIALS)}


def decide(suggestion: Suggestion) -> None:
    """Sample a small conditional space."""
    suggester = suggestion.suggester
    kind = suggester.suggest_categorical("kind", ["flat", "deep"])
    suggester.suggest_float("rate", 1e-4, 1.0, log=True)
    if kind == "deep":
        suggester.suggest_int("depth", 1, 8)


def sample(sampler: Sampler[Any], number: int, resample: int = 0) -> dict[str, Any]:
    """Return the decisions sampled for a trial that is then discarded."""
    suggestion = sampler.sample(number, resample)
    decide(suggestion)
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


def conclude(sampler: Sampler[Any], number: int, **outcome: Any) -> Trial:
    """Sample a trial, keep it and tell its outcome."""
    suggestion = sampler.sample(number, 0)
    decide(suggestion)
    attributes = sampler.attributes(suggestion)
    uid = f"{number:032x}"
    sampler.keep(suggestion, uid, number)
    given: dict[str, Any] = {"reason": None, "values": None, "violations": {}, **outcome}
    trial = Trial(
        number=number,
        uid=uid,
        kind="search",
        parent=None,
        params=suggestion.params,
        distributions=suggestion.distributions,
        candidate={},
        digest=f"{number:064x}",
        seed=number,
        attempts=1,
        failure=None,
        sampler_attrs=attributes,
        created=0.0,
        started=None,
        ended=None,
        measurements=(
            Measurement(fidelity=1, metrics={"val_accuracy": number % 7 / 7}, elapsed_s=1.0),
        ),
        cost={"parameters": 100.0 + number},
        **given,
    )
    sampler.tell(trial)
    return trial
