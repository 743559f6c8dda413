"""Examines a study: what its space holds, which limits can be met, how long it will take.

    whole(parts, box)     everything, for `archscout space`
    quick(parts, box)     as little as tells whether a search can work, before it starts

Both look for as long as their box says; what is found is equal for equal seeds, but for timings
and for how much there was time for.
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
from orchestrator.preflight.failure_causes import FailureCause, culprits
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

DRAWN, COUNTED = 2000, 300
"""Candidates that are drawn, and those of them that are counted, if there is time."""
QUICKLY_DRAWN, QUICKLY_COUNTED = 100, 8
"""The same for a quick look."""
UNKNOWN_ERROR = 0.5
"""Relative error of predicted times that is taken where too few networks were timed to see it."""
START_S: Mapping[str, float] = {"in_process": 1.0, "ray_tune": 12.0}
"""What starting and ending an engine takes, MLflow's projection included."""
TRIAL_S: Mapping[str, float] = {"in_process": 0.1, "ray_tune": 0.3}
"""What a trial takes beside its training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found."""

    config: StudyConfig
    drawn: tuple[SampledCandidate, ...]
    """Candidates that chance drew."""
    counted: tuple[SampledCandidate, ...]
    """The first of them, with their cost or why they do not build after all."""
    first: tuple[SampledCandidate, ...]
    """The default and the seed points, counted: what the study tries first."""
    culprits: tuple[FailureCause, ...]
    """What breaks candidates."""
    limits: tuple[ConstraintReport, ...]
    """How far each constraint can be met."""
    together: ConstraintReport | None
    """How far all of them can; None without constraints."""
    networks: Networks | None
    """How many there are; None where nobody looked."""
    pace: Pace | None
    """How fast this machine is; None where nothing was timed."""
    forecast: StudyForecast | None
    """When the study ends; None where nobody can say."""
    slots: int
    """Trials at a time."""

    @property
    def builds(self) -> tuple[int, int]:
        """How many candidates of chance build, of how many that were built in full."""
        return sum(probe.cost is not None for probe in self.counted), len(self.counted)

    @property
    def fits(self) -> tuple[int, int]:
        """How many candidates of chance build as far as their shapes tell, of how many."""
        return sum(probe.failure is None for probe in self.drawn), len(self.drawn)

    def epoch_s(self, probe: SampledCandidate, examples: int) -> float | None:
        """How long an epoch of a counted candidate takes; None where nothing was timed."""
        if self.pace is None or probe.cost is None:
            return None
        return examples * self.pace.example_s(timing.load_of(probe))


def full_check(
    parts: StudyInputs, space: SearchSpace, task: Task, box: Deadline, *, at_least: int = 1
) -> Diagnosis:
    """Everything that can be found out in time; so many candidates are counted in any case."""
    probing = CandidateSampler(parts.config, space, task)
    first = _first(parts, probing)
    drawn = probing.random(parts.config.seed, DRAWN, box.share(0.15), at_least)
    counts = networks(probing, [p.network for p in drawn if p.network], box.share(0.15))
    counted = list(probing.counted(drawn[: max(COUNTED, at_least)], box.share(0.3), at_least))
    found = _sought(parts, probing, [*first, *counted], box.share(0.5))
    seen = _Seen(drawn=drawn, counted=counted, first=first, found=found)
    return _diagnosis(parts, space, seen, counts, _pace(parts, space, seen, box))


def quick_check(
    parts: StudyInputs, space: SearchSpace, task: Task, box: Deadline, *, extended: Deadline
) -> Diagnosis:
    """As little as tells whether the search can work.

    Args:
        parts: The study.
        space: Its space.
        task: Its task.
        box: How long it may take where somebody who meets the limits is found at once.
        extended: How long it may take otherwise.
    """
    probing = CandidateSampler(parts.config, space, task)
    first = _first(parts, probing)
    drawn = probing.random(parts.config.seed, QUICKLY_DRAWN, box.share(0.1))
    # A user's own blocks run in workers alone, where they can hang or crash without harm.
    trains = _trains_here(parts) and user_object(parts.config.space) is None
    # A CUDA context in the driver would hold memory of the GPU for as long as trials need it.
    trains &= (
        parts.config.engine.name == "in_process" or timing.place_of(parts.config).device == "cpu"
    )
    wanted = QUICKLY_COUNTED if trains else 1
    counted = list(probing.counted(drawn[:wanted], box.share(0.3)))
    found: list[SampledCandidate] = []
    if not _feasible(counted, _limits(parts.config, space)):
        # Rare: then it is worth some seconds to find out whether there is anybody at all.
        drawn = probing.random(parts.config.seed, DRAWN, extended.share(0.1))
        counted = list(probing.counted(drawn[:COUNTED], extended.share(0.3)))
        found = _sought(parts, probing, [*first, *counted], extended.share(0.6))
    seen = _Seen(drawn=drawn, counted=counted, first=first, found=found)
    return _diagnosis(parts, space, seen, None, _pace(parts, space, seen, box) if trains else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """All candidates that were looked at."""

    drawn: Sequence[SampledCandidate]
    counted: Sequence[SampledCandidate]
    first: Sequence[SampledCandidate]
    found: Sequence[SampledCandidate]
    """On the way to limits that nobody else meets."""


def _first(parts: StudyInputs, probing: CandidateSampler) -> tuple[SampledCandidate, ...]:
    """What the study tries first, counted."""
    config, space = parts.config, probing.space
    points: Sequence[Mapping[str, Any]] = [space.default_params()]
    if config.seed_points:
        from orchestrator.sampling.proposals import first_points  # noqa: PLC0415 - loads optuna

        points = first_points(space, config.seed_points, config.seed)
    return tuple(probing.count(probe) for probe in probing.given(points))


def _limits(config: StudyConfig, space: SearchSpace) -> tuple[Constraint, ...]:
    return (*config.constraints, *space.constraints)


def _sought(
    parts: StudyInputs, probing: CandidateSampler, known: Sequence[SampledCandidate], box: Deadline
) -> list[SampledCandidate]:
    """Candidates found on the way to each limit that nobody known meets, and to all together."""
    limits = _limits(parts.config, probing.space)
    aims = [(limit,) for limit in limits] + ([limits] if len(limits) > 1 else [])
    found: list[SampledCandidate] = []
    for number, aim in enumerate(aims):
        best = assess_constraints(aim, known, found).nearest
        if best is None or best.worst(aim) > 0:
            part = box.share(1 / (len(aims) - number))
            found += descend_to_feasible(probing, aim, best, parts.config.seed + number, part)
    return found


def _trains_here(parts: StudyInputs) -> bool:
    """Whether trials train networks on this machine."""
    return parts.config.data.source != "surrogate" and parts.config.engine.address is None


def _pace(parts: StudyInputs, space: SearchSpace, seen: _Seen, box: Deadline) -> Pace | None:
    """This machine's pace on candidates that the study would train."""
    if not _trains_here(parts):
        return None
    usual = [*seen.first, *seen.counted, *seen.found]
    return timing.pace_of(parts, _feasible(usual, _limits(parts.config, space)), box)


def _feasible(
    probes: Sequence[SampledCandidate], limits: Sequence[Constraint]
) -> list[SampledCandidate]:
    return [probe for probe in probes if probe.cost and probe.worst(limits) <= 0]


def _diagnosis(
    parts: StudyInputs, space: SearchSpace, seen: _Seen, counts: Networks | None, pace: Pace | None
) -> Diagnosis:
    limits = _limits(parts.config, space)
    others = [*seen.first, *seen.found]
    tried = [*seen.counted, *seen.drawn[len(seen.counted) :]]
    found = Diagnosis(
        config=parts.config,
        drawn=tuple(seen.drawn),
        counted=tuple(seen.counted),
        first=tuple(seen.first),
        culprits=tuple(culprits([(probe.params, probe.failure) for probe in tried])),
        limits=tuple(assess_constraints((limit,), seen.counted, others) for limit in limits),
        together=assess_constraints(limits, seen.counted, others) if limits else None,
        networks=counts,
        pace=pace,
        forecast=None,
        slots=timing.slots_of(parts.config),
    )
    usual = _feasible([*seen.counted, *seen.found], limits)
    return replace(found, forecast=_forecast(found, usual, len(parts.dataset.train)))


def _forecast(
    found: Diagnosis, usual: Sequence[SampledCandidate], examples: int
) -> StudyForecast | None:
    """When the study ends; None where nobody can say."""
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
    """Least, 5 %, 25 %, median, 75 %, 95 % and most of some values."""
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
    """What the counted candidates cost, by name."""
    found: dict[str, list[float]] = {}
    for probe in diagnosis.counted:
        for name, value in (probe.cost or {}).items():
            found.setdefault(name, []).append(value)
    return found


def plain(value: float) -> Any:
    """A number as JSON has it: none for what is endless."""
    return None if math.isinf(value) else value
