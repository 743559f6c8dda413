"""Feasible constraints: random samples first, then a short descent toward the constraints.

Where no random candidate meets the constraints, numbers are tried at the low end of their ranges,
and the nearest candidate is changed by one to three decisions at a time, keeping changes that
violate the constraints no more than before. Feasible candidates may exist even if none is found.
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
"""Candidates tried with every number at its lowest value."""
MAX_STEPS = 400
"""Changes tried during the descent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintReport:
    """Feasibility of one constraint, or of several together."""

    limits: tuple[Constraint, ...]
    """Constraints."""
    among: int
    """Random candidates that build."""
    by: int
    """Those of them that meet all constraints."""
    nearest: SampledCandidate | None
    """A feasible candidate, or the one with the least violation; None if none builds."""

    @property
    def possible(self) -> bool:
        """Return whether a feasible candidate was found."""
        return self.nearest is not None and self.nearest.worst(self.limits) <= 0


def assess_constraints(
    limits: Sequence[Constraint],
    counted: Sequence[SampledCandidate],
    found: Sequence[SampledCandidate] = (),
) -> ConstraintReport:
    """Return the share of feasible random candidates, and the nearest candidate.

    Args:
        limits: Constraints.
        counted: Random candidates; those that do not build are skipped.
        found: Other candidates, considered for the nearest only.
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
    sampler: CandidateSampler,
    limits: Sequence[Constraint],
    start: SampledCandidate | None,
    seed: int,
    deadline: Deadline,
) -> list[SampledCandidate]:
    """Return the candidates of a descent toward the constraints; it ends at a feasible one.

    Args:
        sampler: The space and the task.
        limits: Constraints.
        start: Nearest candidate so far, if any builds.
        seed: Seed of every step.
        deadline: Time to search.
    """
    way = [] if start is None else [start]
    for probe in _nearby(sampler, way, random.Random(seed)):  # noqa: S311 - a search, no secret
        if not deadline.left_s or (way and way[-1].worst(limits) <= 0):
            break
        if probe.cost is not None and (not way or probe.worst(limits) <= way[-1].worst(limits)):
            way.append(probe)
    return way


def _nearby(
    sampler: CandidateSampler, way: Sequence[SampledCandidate], chance: random.Random
) -> Iterator[SampledCandidate]:
    """Yield counted candidates to try: small ones, then changes of the last one kept."""
    for _ in range(SMALL_STARTS):
        yield _varied(sampler, {}, None, chance)
    for _ in range(MAX_STEPS):
        if not way:
            yield _varied(sampler, {}, frozenset(), chance)
            continue
        names = list(architecture_decisions(way[-1].params))
        changed = frozenset(chance.sample(names, min(len(names), chance.choice((1, 1, 2, 3)))))
        yield _varied(sampler, way[-1].params, changed, chance)


def _varied(
    sampler: CandidateSampler,
    params: Mapping[str, Any],
    changed: frozenset[str] | None,
    chance: random.Random,
) -> SampledCandidate:
    suggester = MutatingSuggester(params, changed, chance)
    return sampler.count(sampler.of(suggester, suggester.params))
