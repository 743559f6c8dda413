"""Screening: what is known of a candidate before any worker sees it.

Counts its cost on the meta device and holds it against the constraints; a candidate that does not
build violates the constraint `builds`. Knows no sampler and no ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from search_spaces.candidate import Candidate, Decisions
from search_spaces.space import Constraint
from search_spaces.task import Shape, Task
from workers.failures import Failure, FailureKind, classify

DOES_NOT_BUILD = "builds"
"""The constraint that a candidate violates whose network cannot be built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """What screening found."""

    cost: Mapping[str, float]
    """`parameters`, `flops`, `activation_bytes`; empty where nothing can be counted."""
    violations: Mapping[str, float]
    """By constraint; at most 0 is feasible."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """Output shape of each part of the network, by name; empty where nothing is built."""
    failure: Failure | None = None
    """Why the candidate does not build, if so."""

    @property
    def feasible(self) -> bool:
        """Whether a worker may train it."""
        return all(violation <= 0 for violation in self.violations.values())


def screen(
    candidate: Candidate | Decisions, task: Task | None, constraints: Sequence[Constraint]
) -> Screening:
    """Counts a candidate's cost and holds it against the constraints.

    Args:
        candidate: Decisions of a define-by-run space describe no network of ours: they pass.
        task: What the network is built for; None passes every candidate.
        constraints: Bounds on the cost.
    """
    try:
        found = {} if task is None else candidate.cost(task)
        shapes = {} if task is None else candidate.shapes(task)
    except Exception as error:  # noqa: BLE001 - a user's block may raise anything
        failure = replace(classify(error), kind=FailureKind.BAD_CANDIDATE)
        return Screening(cost={}, violations={DOES_NOT_BUILD: 1.0}, failure=failure)
    violations = {c.metric: c.violation(found[c.metric]) for c in constraints if found}
    return Screening(cost=found, violations=violations, shapes=shapes)
