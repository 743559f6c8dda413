"""Diagnosis of a study before it runs: buildable networks, feasible limits, expected duration.

    full_check(...)     everything, for `archscout space`
    quick_check(...)    only whether a search can work, before it starts

Both run until their deadline. Equal seeds give equal results, except for timings and for the number
of candidates that there was time for.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.config.checks import user_object
from orchestrator.config.schema import StudyConfig
from orchestrator.preflight import timing
from orchestrator.preflight.candidates import CandidateSampler, SampledCandidate
from orchestrator.preflight.deadline import Deadline
from orchestrator.preflight.failure_causes import FailureCause, find_failure_causes
from orchestrator.preflight.feasibility import (
    ConstraintReport,
    assess_constraints,
    descend_to_feasible,
)
from orchestrator.preflight.forecast import Plan, StudyForecast, forecast
from orchestrator.preflight.network_count import NetworkCount, count_networks
from orchestrator.preflight.timing import Pace
from orchestrator.sampling.seed_points import first_points
from orchestrator.study.prepare import StudyInputs
from search_spaces.space import Constraint, SearchSpace
from search_spaces.task import Task

SAMPLED, COUNTED = 2000, 300
"""Numbers of candidates to sample and to count, if there is time."""
QUICK_SAMPLED, QUICK_COUNTED = 100, 8
"""The same for a quick check."""
LIKELY = 50
"""Number of candidates from the priors to count, if there is time."""
UNKNOWN_ERROR = 0.5
"""Relative error assumed for predicted times where too few networks were timed to estimate it."""
START_S: Mapping[str, float] = {"in_process": 1.0, "ray_tune": 12.0}
"""Seconds to start and end an engine, including MLflow's projection."""
TRIAL_S: Mapping[str, float] = {"in_process": 0.1, "ray_tune": 0.3}
"""Seconds of a trial in addition to its training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Results of a check."""

    config: StudyConfig
    sampled: tuple[SampledCandidate, ...]
    """Random candidates."""
    counted: tuple[SampledCandidate, ...]
    """The first of them, with their cost or the error of their build."""
    first: tuple[SampledCandidate, ...]
    """The default candidate and the seed points, counted."""
    failure_causes: tuple[FailureCause, ...]
    """Decisions that go with candidates that do not build."""
    limits: tuple[ConstraintReport, ...]
    """Feasibility of each constraint."""
    together: ConstraintReport | None
    """Feasibility of all constraints together; None without constraints."""
    networks: NetworkCount | None
    """Number of distinct networks; None where it was not estimated."""
    pace: Pace | None
    """Speed of this machine; None where nothing was timed."""
    forecast: StudyForecast | None
    """Expected duration; None where it is unknown."""
    slots: int
    """Parallel trials."""

    @property
    def builds(self) -> tuple[int, int]:
        """Numbers of counted candidates that build, and of all counted ones."""
        return sum(sample.cost is not None for sample in self.counted), len(self.counted)

    @property
    def fits(self) -> tuple[int, int]:
        """Numbers of sampled candidates whose shapes fit the data, and of all sampled ones."""
        return sum(sample.failure is None for sample in self.sampled), len(self.sampled)

    def epoch_s(self, sample: SampledCandidate, examples: int) -> float | None:
        """Return the predicted seconds of an epoch; None where nothing was timed."""
        if self.pace is None or sample.cost is None:
            return None
        return examples * self.pace.example_s(timing.load_of(sample))


def full_check(
    inputs: StudyInputs, space: SearchSpace, task: Task, deadline: Deadline, *, at_least: int = 1
) -> Diagnosis:
    """Run all checks until the deadline.

    Args:
        inputs: The study's inputs.
        space: The study's space.
        task: The study's task.
        deadline: Deadline of all checks.
        at_least: Candidates that are counted even after it.
    """
    sampler = CandidateSampler(inputs.config, space, task)
    first = _first(inputs, sampler)
    sampled = sampler.random(inputs.config.seed, SAMPLED, deadline.share(0.15), at_least)
    counts = count_networks(
        sampler, [p.network for p in sampled if p.network], deadline.share(0.15)
    )
    counted = list(
        sampler.counted(sampled[: max(COUNTED, at_least)], deadline.share(0.3), at_least)
    )
    found = _search_feasible(inputs, sampler, [*first, *counted], deadline.share(0.5))
    likely = _likely(sampler, LIKELY, deadline.share(0.2))
    samples = _Samples(sampled=sampled, counted=counted, first=first, found=found, likely=likely)
    return _diagnosis(inputs, space, samples, counts, _pace(inputs, space, samples, deadline))


def quick_check(
    inputs: StudyInputs, space: SearchSpace, task: Task, deadline: Deadline, *, extended: Deadline
) -> Diagnosis:
    """Check only whether the search can work.

    Args:
        inputs: The study's inputs.
        space: The study's space.
        task: The study's task.
        deadline: Deadline if a feasible candidate is found at once.
        extended: Deadline otherwise.
    """
    sampler = CandidateSampler(inputs.config, space, task)
    first = _first(inputs, sampler)
    sampled = sampler.random(inputs.config.seed, QUICK_SAMPLED, deadline.share(0.1))
    # A user's own blocks run only in workers, where they can hang or crash without harm.
    trains = _trains_locally(inputs) and user_object(inputs.config.space_base) is None
    # A CUDA context in the driver would occupy memory of the trials' GPU.
    trains &= (
        inputs.config.engine.name == "in_process" or timing.place_of(inputs.config).device == "cpu"
    )
    wanted = QUICK_COUNTED if trains else 1
    likely = _likely(sampler, wanted, deadline.share(0.3))
    counted = likely or list(sampler.counted(sampled[:wanted], deadline.share(0.3)))
    found: list[SampledCandidate] = []
    if not _feasible(counted, _limits(inputs.config, space)):
        # Rare, so it is worth some seconds to find out whether any candidate is feasible.
        sampled = sampler.random(inputs.config.seed, SAMPLED, extended.share(0.1))
        counted = list(sampler.counted(sampled[:COUNTED], extended.share(0.3)))
        found = _search_feasible(inputs, sampler, [*first, *counted], extended.share(0.6))
    samples = _Samples(sampled=sampled, counted=counted, first=first, found=found, likely=likely)
    return _diagnosis(
        inputs, space, samples, None, _pace(inputs, space, samples, deadline) if trains else None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Samples:
    """All candidates of a check."""

    sampled: Sequence[SampledCandidate]
    counted: Sequence[SampledCandidate]
    first: Sequence[SampledCandidate]
    found: Sequence[SampledCandidate]
    """Candidates from the search for limits that no other candidate meets."""
    likely: Sequence[SampledCandidate]
    """Candidates from the priors, counted: the sampler `auto` mostly proposes such ones."""


def _likely(sampler: CandidateSampler, at_most: int, deadline: Deadline) -> list[SampledCandidate]:
    """Return counted candidates from the priors; none for samplers that start uniformly."""
    if sampler.config.sampler.name != "auto":
        return []
    likely = sampler.likely(sampler.config.seed, at_most)
    return list(sampler.counted(likely, deadline, at_least=0))


def _first(inputs: StudyInputs, sampler: CandidateSampler) -> tuple[SampledCandidate, ...]:
    """Return the candidates that the study tries first, counted."""
    config, space = inputs.config, sampler.space
    points: Sequence[Mapping[str, Any]] = [space.default_params()]
    if config.seed_points:
        points = first_points(space, config.seed_points, config.seed)
    return tuple(sampler.count(sample) for sample in sampler.from_points(points))


def _limits(config: StudyConfig, space: SearchSpace) -> tuple[Constraint, ...]:
    return (*config.constraints, *space.constraints)


def _search_feasible(
    inputs: StudyInputs,
    sampler: CandidateSampler,
    known: Sequence[SampledCandidate],
    deadline: Deadline,
) -> list[SampledCandidate]:
    """Search a feasible candidate for each limit that no known one meets, and for all limits."""
    limits = _limits(inputs.config, sampler.space)
    aims = [(limit,) for limit in limits] + ([limits] if len(limits) > 1 else [])
    found: list[SampledCandidate] = []
    for number, aim in enumerate(aims):
        best = assess_constraints(aim, known, found).nearest
        if best is None or best.worst(aim) > 0:
            share = deadline.share(1 / (len(aims) - number))
            found += descend_to_feasible(sampler, aim, best, inputs.config.seed + number, share)
    return found


def _trains_locally(inputs: StudyInputs) -> bool:
    """Return whether trials train networks on this machine."""
    return inputs.config.data.source != "surrogate" and inputs.config.engine.address is None


def _pace(
    inputs: StudyInputs, space: SearchSpace, samples: _Samples, deadline: Deadline
) -> Pace | None:
    """Return this machine's pace on feasible candidates."""
    if not _trains_locally(inputs):
        return None
    usual = [*samples.first, *samples.counted, *samples.found]
    return timing.pace_of(inputs, _feasible(usual, _limits(inputs.config, space)), deadline)


def _feasible(
    samples: Sequence[SampledCandidate], limits: Sequence[Constraint]
) -> list[SampledCandidate]:
    return [sample for sample in samples if sample.cost and sample.worst(limits) <= 0]


def _diagnosis(
    inputs: StudyInputs,
    space: SearchSpace,
    samples: _Samples,
    counts: NetworkCount | None,
    pace: Pace | None,
) -> Diagnosis:
    limits = _limits(inputs.config, space)
    others = [*samples.first, *samples.found]
    tried = [*samples.counted, *samples.sampled[len(samples.counted) :]]
    found = Diagnosis(
        config=inputs.config,
        sampled=tuple(samples.sampled),
        counted=tuple(samples.counted),
        first=tuple(samples.first),
        failure_causes=tuple(
            find_failure_causes([(sample.params, sample.failure) for sample in tried])
        ),
        limits=tuple(assess_constraints((limit,), samples.counted, others) for limit in limits),
        together=assess_constraints(limits, samples.counted, others) if limits else None,
        networks=counts,
        pace=pace,
        forecast=None,
        slots=timing.slots_of(inputs.config),
    )
    usual = _feasible(samples.likely, limits) or _feasible(
        [*samples.counted, *samples.found], limits
    )
    return replace(found, forecast=_forecast(found, usual, len(inputs.dataset.train)))


def _forecast(
    found: Diagnosis, usual: Sequence[SampledCandidate], examples: int
) -> StudyForecast | None:
    """Expected duration; None where it is unknown."""
    times = [found.epoch_s(sample, examples) for sample in (*found.first[:1], *usual)]
    epochs_s = tuple(time for time in times if time is not None)
    if found.pace is None or not epochs_s:
        return None
    config = found.config
    plan = Plan(
        epochs_s=epochs_s[1:] or epochs_s,
        first_s=epochs_s[0],
        budget=config.budget,
        per_cost=config.sampler.name == "auto",
        halving=config.pruner.name == "halving",
        slots=found.slots,
        trials=config.stop.trials,
        hours=config.stop.hours,
        error=UNKNOWN_ERROR if found.pace.error is None else found.pace.error,
        timed=found.pace.timed,
        start_s=START_S[config.engine.name],
        trial_s=TRIAL_S[config.engine.name],
        confirmation=config.confirm.plan,
    )
    return forecast(plan, config.seed)


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, 5 %, 25 %, 50 %, 75 % and 95 % quantiles, and maximum."""
    ranked = sorted(values)
    last = len(ranked) - 1
    shares = {
        "min": 0.0,
        "p5": 0.05,
        "p25": 0.25,
        "median": 0.5,
        "p75": 0.75,
        "p95": 0.95,
        "max": 1,
    }
    return {name: ranked[math.floor(share * last + 0.5)] for name, share in shares.items()}


def costs(diagnosis: Diagnosis) -> dict[str, list[float]]:
    """Return the costs of the counted candidates, by name."""
    found: dict[str, list[float]] = {}
    for sample in diagnosis.counted:
        for name, value in (sample.cost or {}).items():
            found.setdefault(name, []).append(value)
    return found


def finite_or_none(value: float) -> Any:
    """Return a number for JSON; None instead of infinity."""
    return None if math.isinf(value) else value
