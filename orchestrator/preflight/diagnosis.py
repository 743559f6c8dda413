"""Diagnosis of a study: size of its space, feasible constraints, expected duration.

    full_check(inputs, ...)     everything, for `archscout space`
    quick_check(inputs, ...)    the minimum that shows whether a search can work, before it starts

Both stop at their deadline; equal seeds give equal results, except for timings and for how many
candidates there was time for.
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
from orchestrator.preflight.network_count import Networks, networks
from orchestrator.preflight.timing import Pace
from orchestrator.study.prepare import StudyInputs
from search_spaces.space import Constraint, SearchSpace
from search_spaces.task import Task

SAMPLED, COUNTED = 2000, 300
"""Candidates sampled, and those of them counted, if time allows."""
QUICK_SAMPLED, QUICK_COUNTED = 100, 8
"""The same for the quick check."""
UNKNOWN_ERROR = 0.5
"""Relative error assumed for predicted times where too few networks were timed."""
START_S: Mapping[str, float] = {"in_process": 1.0, "ray_tune": 12.0}
"""Time to start and stop an engine, MLflow's projection included."""
TRIAL_S: Mapping[str, float] = {"in_process": 0.1, "ray_tune": 0.3}
"""Overhead of a trial in addition to its training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """Results of a check."""

    config: StudyConfig
    sampled: tuple[SampledCandidate, ...]
    """Random candidates."""
    counted: tuple[SampledCandidate, ...]
    """The first of them, with their cost or the reason why they do not build."""
    first: tuple[SampledCandidate, ...]
    """The default and the seed points, counted; the study tries them first."""
    failure_causes: tuple[FailureCause, ...]
    """Likely causes of candidates that do not build."""
    limits: tuple[ConstraintReport, ...]
    """Feasibility of each constraint."""
    together: ConstraintReport | None
    """Feasibility of all of them together; None without constraints."""
    networks: Networks | None
    """Number of distinct networks; None if not counted."""
    pace: Pace | None
    """Training speed of this machine; None if nothing was timed."""
    forecast: StudyForecast | None
    """Expected duration; None if it cannot be predicted."""
    slots: int
    """Concurrent trials."""

    @property
    def builds(self) -> tuple[int, int]:
        """Return how many random candidates build, and of how many that were built in full."""
        return sum(probe.cost is not None for probe in self.counted), len(self.counted)

    @property
    def fits(self) -> tuple[int, int]:
        """Return how many random candidates build by their shapes alone, and of how many."""
        return sum(probe.failure is None for probe in self.sampled), len(self.sampled)

    def epoch_s(self, probe: SampledCandidate, examples: int) -> float | None:
        """Return the predicted epoch time of a counted candidate; None if nothing was timed."""
        if self.pace is None or probe.cost is None:
            return None
        return examples * self.pace.example_s(timing.load_of(probe))


def full_check(
    inputs: StudyInputs, space: SearchSpace, task: Task, deadline: Deadline, *, at_least: int = 1
) -> Diagnosis:
    """Check everything within the deadline; `at_least` candidates are counted in any case."""
    sampler = CandidateSampler(inputs.config, space, task)
    first = _first(inputs, sampler)
    sampled = sampler.random(inputs.config.seed, SAMPLED, deadline.share(0.15), at_least)
    counts = networks(sampler, [p.network for p in sampled if p.network], deadline.share(0.15))
    wanted = sampled[: max(COUNTED, at_least)]
    counted = list(sampler.counted(wanted, deadline.share(0.3), at_least))
    found = _sought(inputs, sampler, [*first, *counted], deadline.share(0.5))
    seen = _Seen(sampled=sampled, counted=counted, first=first, found=found)
    return _diagnosis(inputs, space, seen, counts, _pace(inputs, space, seen, deadline))


def quick_check(
    inputs: StudyInputs, space: SearchSpace, task: Task, deadline: Deadline, *, extended: Deadline
) -> Diagnosis:
    """Check only whether the search can work.

    Args:
        inputs: The study.
        space: Its space.
        task: Its task.
        deadline: Time to spend if a feasible candidate is found at once.
        extended: Time to spend otherwise.
    """
    sampler = CandidateSampler(inputs.config, space, task)
    first = _first(inputs, sampler)
    sampled = sampler.random(inputs.config.seed, QUICK_SAMPLED, deadline.share(0.1))
    # A user's own blocks run in workers alone, where they can hang or crash without harm.
    trains = _trains_here(inputs) and user_object(inputs.config.space) is None
    # A CUDA context in the driver would hold memory of the GPU for as long as trials need it.
    trains &= (
        inputs.config.engine.name == "in_process" or timing.place_of(inputs.config).device == "cpu"
    )
    wanted = QUICK_COUNTED if trains else 1
    counted = list(sampler.counted(sampled[:wanted], deadline.share(0.3)))
    found: list[SampledCandidate] = []
    if not _feasible(counted, _limits(inputs.config, space)):
        # Rare: then some seconds are worth spending to find any feasible candidate.
        sampled = sampler.random(inputs.config.seed, SAMPLED, extended.share(0.1))
        counted = list(sampler.counted(sampled[:COUNTED], extended.share(0.3)))
        found = _sought(inputs, sampler, [*first, *counted], extended.share(0.6))
    seen = _Seen(sampled=sampled, counted=counted, first=first, found=found)
    pace = _pace(inputs, space, seen, deadline) if trains else None
    return _diagnosis(inputs, space, seen, None, pace)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """All candidates examined."""

    sampled: Sequence[SampledCandidate]
    counted: Sequence[SampledCandidate]
    first: Sequence[SampledCandidate]
    found: Sequence[SampledCandidate]
    """Found during descents toward constraints that no other candidate meets."""


def _first(inputs: StudyInputs, sampler: CandidateSampler) -> tuple[SampledCandidate, ...]:
    """Return the candidates that the study tries first, counted."""
    config, space = inputs.config, sampler.space
    points: Sequence[Mapping[str, Any]] = [space.default_params()]
    if config.seed_points:
        from orchestrator.sampling.proposals import first_points  # noqa: PLC0415 - loads optuna

        points = first_points(space, config.seed_points, config.seed)
    return tuple(sampler.count(probe) for probe in sampler.given(points))


def _limits(config: StudyConfig, space: SearchSpace) -> tuple[Constraint, ...]:
    return (*config.constraints, *space.constraints)


def _sought(
    inputs: StudyInputs,
    sampler: CandidateSampler,
    known: Sequence[SampledCandidate],
    deadline: Deadline,
) -> list[SampledCandidate]:
    """Descend toward each constraint that no known candidate meets, and toward all together."""
    limits = _limits(inputs.config, sampler.space)
    aims = [(limit,) for limit in limits] + ([limits] if len(limits) > 1 else [])
    found: list[SampledCandidate] = []
    for number, aim in enumerate(aims):
        best = assess_constraints(aim, known, found).nearest
        if best is None or best.worst(aim) > 0:
            part = deadline.share(1 / (len(aims) - number))
            found += descend_to_feasible(sampler, aim, best, inputs.config.seed + number, part)
    return found


def _trains_here(inputs: StudyInputs) -> bool:
    """Return whether trials train networks on this machine."""
    return inputs.config.data.source != "surrogate" and inputs.config.engine.address is None


def _pace(inputs: StudyInputs, space: SearchSpace, seen: _Seen, deadline: Deadline) -> Pace | None:
    """Return this machine's pace on candidates that the study would train."""
    if not _trains_here(inputs):
        return None
    usual = [*seen.first, *seen.counted, *seen.found]
    return timing.pace_of(inputs, _feasible(usual, _limits(inputs.config, space)), deadline)


def _feasible(
    probes: Sequence[SampledCandidate], limits: Sequence[Constraint]
) -> list[SampledCandidate]:
    return [probe for probe in probes if probe.cost and probe.worst(limits) <= 0]


def _diagnosis(
    inputs: StudyInputs, space: SearchSpace, seen: _Seen, counts: Networks | None, pace: Pace | None
) -> Diagnosis:
    limits = _limits(inputs.config, space)
    others = [*seen.first, *seen.found]
    tried = [*seen.counted, *seen.sampled[len(seen.counted) :]]
    causes = find_failure_causes([(probe.params, probe.failure) for probe in tried])
    found = Diagnosis(
        config=inputs.config,
        sampled=tuple(seen.sampled),
        counted=tuple(seen.counted),
        first=tuple(seen.first),
        failure_causes=tuple(causes),
        limits=tuple(assess_constraints((limit,), seen.counted, others) for limit in limits),
        together=assess_constraints(limits, seen.counted, others) if limits else None,
        networks=counts,
        pace=pace,
        forecast=None,
        slots=timing.slots_of(inputs.config),
    )
    usual = _feasible([*seen.counted, *seen.found], limits)
    return replace(found, forecast=_forecast(found, usual, len(inputs.dataset.train)))


def _forecast(
    found: Diagnosis, usual: Sequence[SampledCandidate], examples: int
) -> StudyForecast | None:
    """Return the expected duration of the study; None if it cannot be predicted."""
    times = [found.epoch_s(probe, examples) for probe in (*found.first[:1], *usual)]
    epochs_s = tuple(time for time in times if time is not None)
    if found.pace is None or not epochs_s:
        return None
    config = found.config
    plan = Plan(
        epochs_s=epochs_s[1:] or epochs_s,
        first_s=epochs_s[0],
        budget=config.budget,
        halving=config.pruner.name == "halving",
        slots=found.slots,
        trials=config.stop.trials,
        hours=config.stop.hours,
        error=UNKNOWN_ERROR if found.pace.error is None else found.pace.error,
        timed=found.pace.timed,
        start_s=START_S[config.engine.name],
        trial_s=TRIAL_S[config.engine.name],
    )
    return forecast(plan, config.seed)


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, 5 %, 25 %, median, 75 %, 95 % and maximum of some values."""
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
    """Return the costs of the counted candidates by name."""
    found: dict[str, list[float]] = {}
    for probe in diagnosis.counted:
        for name, value in (probe.cost or {}).items():
            found.setdefault(name, []).append(value)
    return found


def plain(value: float) -> Any:
    """Return a number for JSON: None for infinity."""
    return None if math.isinf(value) else value
