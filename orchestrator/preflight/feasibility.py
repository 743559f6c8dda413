"""Which limits can be met, and by what: chance first, then a short way downhill.

Where chance finds nobody who meets the limits, numbers are tried at the low end of their ranges,
and the nearest candidate is changed a decision or three at a time, keeping what exceeds the limits
no more than before. What is not found this way may exist all the same.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from orchestrator.preflight.candidates import CandidateSampler, SampledCandidate
from orchestrator.preflight.deadline import Deadline
from orchestrator.sampling.mutation import MutatingSuggester, architecture_decisions
from search_spaces.space import Constraint

T = TypeVar("T")

SMALL_STARTS = 8
"""Candidates tried with every number at its lowest."""
MAX_STEPS = 400
"""Changes tried on the way downhill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintReport:
    """How far limits can be met, one alone or several together."""

    limits: tuple[Constraint, ...]
    """What is to be met."""
    among: int
    """Candidates that chance drew and that build."""
    by: int
    """Those of them that meet all of it."""
    nearest: SampledCandidate | None
    """Who meets it, or exceeds it least; None if nobody builds."""

    @property
    def possible(self) -> bool:
        """Whether anybody was found who meets it."""
        return self.nearest is not None and self.nearest.worst(self.limits) <= 0


def assess_constraints(
    limits: Sequence[Constraint],
    counted: Sequence[SampledCandidate],
    found: Sequence[SampledCandidate] = (),
) -> ConstraintReport:
    """What chance says of the limits, and the nearest of all.

    Args:
        limits: What is to be met.
        counted: Candidates that chance drew; those that do not build are passed over.
        found: Other candidates, which count as nearest alone.
    """
    build = [probe for probe in counted if probe.cost is not None]
    everyone = [*build, *(probe for probe in found if probe.cost is not None)]
    return ConstraintReport(
        limits=tuple(limits),
        among=len(build),
        by=sum(probe.worst(limits) <= 0 for probe in build),
        nearest=min(everyone, key=lambda probe: probe.worst(limits), default=None),
    )


def descend_to_feasible(
    probing: CandidateSampler,
    limits: Sequence[Constraint],
    start: SampledCandidate | None,
    seed: int,
    box: Deadline,
) -> list[SampledCandidate]:
    """Candidates on the way towards the limits; the last is the nearest, ended by a feasible one.

    Args:
        probing: The space and the task.
        limits: What is to be met.
        start: The nearest one so far, if any builds.
        seed: Decides every step.
        box: How long to look.
    """
    way = [] if start is None else [start]
    for probe in _nearby(probing, way, random.Random(seed)):  # noqa: S311 - a search, no secret
        if not box.left_s or (way and way[-1].worst(limits) <= 0):
            break
        if probe.cost is not None and (not way or probe.worst(limits) <= way[-1].worst(limits)):
            way.append(probe)
    return way


def _nearby(
    probing: CandidateSampler, way: Sequence[SampledCandidate], chance: random.Random
) -> Iterator[SampledCandidate]:
    """Counted candidates to try: small ones, then changes of the last one on the way."""
    for _ in range(SMALL_STARTS):
        yield _varied(probing, {}, None, chance)
    for _ in range(MAX_STEPS):
        if not way:
            yield _varied(probing, {}, frozenset(), chance)
            continue
        names = list(architecture_decisions(way[-1].params))
        changed = frozenset(chance.sample(names, min(len(names), chance.choice((1, 1, 2, 3)))))
        yield _varied(probing, way[-1].params, changed, chance)


def _varied(
    probing: CandidateSampler,
    params: Mapping[str, Any],
    changed: frozenset[str] | None,
    chance: random.Random,
) -> SampledCandidate:
    suggester = MutatingSuggester(params, changed, chance)
    return probing.count(probing.of(suggester, suggester.params))
