"""Feasibility of constraints: random candidates first, then a short local search.

Where no random candidate meets the limits, numbers are tried at the low end of their ranges. Then
the closest candidate is mutated, one to three decisions at a time, keeping changes that exceed the
limits no more than before. A feasible candidate may exist even if none is found.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from orchestrator.preflight.candidates import CandidateSampler, SampledCandidate
from orchestrator.preflight.deadline import Deadline
from orchestrator.sampling.mutation import ShrinkingSuggester, architecture_decisions
from search_spaces.space import Constraint

T = TypeVar("T")

SMALL_STARTS = 8
"""Candidates tried with every number at its minimum."""
MAX_STEPS = 400
"""Mutations tried in the local search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConstraintReport:
    """Feasibility of one limit, or of several together."""

    limits: tuple[Constraint, ...]
    """The limits."""
    num_built: int
    """Number of random candidates that build."""
    num_feasible: int
    """Number of those that meet all limits."""
    nearest: SampledCandidate | None
    """Candidate with the smallest violation; None if none builds."""

    @property
    def possible(self) -> bool:
        """True if a feasible candidate was found."""
        return self.nearest is not None and self.nearest.worst(self.limits) <= 0


def assess_constraints(
    limits: Sequence[Constraint],
    counted: Sequence[SampledCandidate],
    found: Sequence[SampledCandidate] = (),
) -> ConstraintReport:
    """Return the feasibility of limits among known candidates.

    Args:
        limits: The limits.
        counted: Random candidates; those that do not build are ignored.
        found: Other candidates, only considered as the nearest.
    """
    build = [sample for sample in counted if sample.cost is not None]
    everyone = [*build, *(sample for sample in found if sample.cost is not None)]
    return ConstraintReport(
        limits=tuple(limits),
        num_built=len(build),
        num_feasible=sum(sample.worst(limits) <= 0 for sample in build),
        nearest=min(everyone, key=lambda sample: sample.worst(limits), default=None),
    )


def descend_to_feasible(
    sampler: CandidateSampler,
    limits: Sequence[Constraint],
    start: SampledCandidate | None,
    seed: int,
    deadline: Deadline,
) -> list[SampledCandidate]:
    """Search for a feasible candidate by mutation, and return the improving candidates.

    Args:
        sampler: Sampler of the space.
        limits: The limits.
        start: The closest candidate so far; None if none builds.
        seed: Seed of all mutations.
        deadline: Deadline of the search.

    Returns:
        Candidates with falling violation; the last is the closest, and feasible if one was found.
    """
    accepted = [] if start is None else [start]
    for sample in _nearby(sampler, accepted, random.Random(seed)):  # noqa: S311 - not for cryptography
        if not deadline.remaining_s or (accepted and accepted[-1].worst(limits) <= 0):
            break
        if sample.cost is not None and (
            not accepted or sample.worst(limits) <= accepted[-1].worst(limits)
        ):
            accepted.append(sample)
    return accepted


def _nearby(
    sampler: CandidateSampler, accepted: Sequence[SampledCandidate], rng: random.Random
) -> Iterator[SampledCandidate]:
    """Yield counted candidates to try: small ones, then mutations of the last accepted one."""
    for _ in range(SMALL_STARTS):
        yield _mutated(sampler, {}, None, rng)
    for _ in range(MAX_STEPS):
        if not accepted:
            yield _mutated(sampler, {}, frozenset(), rng)
            continue
        names = list(architecture_decisions(accepted[-1].params))
        changed = frozenset(rng.sample(names, min(len(names), rng.choice((1, 1, 2, 3)))))
        yield _mutated(sampler, accepted[-1].params, changed, rng)


def _mutated(
    sampler: CandidateSampler,
    params: Mapping[str, Any],
    changed: frozenset[str] | None,
    rng: random.Random,
) -> SampledCandidate:
    suggester = ShrinkingSuggester(params, changed, rng)
    return sampler.count(sampler.resolve(suggester, suggester.params))
