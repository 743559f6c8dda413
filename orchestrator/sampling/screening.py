"""Screening: count a candidate's cost before training and check it against the constraints.

Costs are counted on torch's meta device. A candidate whose network cannot be built violates the
constraint `builds`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.objective import violations_of
from orchestrator.sampling.candidates import Space
from orchestrator.trial import Trial
from search_spaces.candidate import Candidate, Decisions
from search_spaces.domains.suggester import Question, RandomSuggester
from search_spaces.space import Constraint
from search_spaces.task import Shape, Task
from workers.failures import Failure, FailureKind, classify

DOES_NOT_BUILD = "builds"
"""Constraint that is violated where a network cannot be built."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """Result of screening a candidate."""

    cost: Mapping[str, float]
    """`parameters`, `flops`, `activation_bytes`; empty where nothing can be counted."""
    violations: Mapping[str, float]
    """Violation by constraint; at most 0 is feasible."""
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    """Output shape of each part of the network, by name; empty where nothing is built."""
    failure: Failure | None = None
    """Error of a network that cannot be built; None otherwise."""

    @property
    def feasible(self) -> bool:
        """True if the candidate may be trained."""
        return all(violation <= 0 for violation in self.violations.values())


def screen(
    candidate: Candidate | Decisions, task: Task | None, constraints: Sequence[Constraint]
) -> Screening:
    """Count a candidate's cost and check it against the constraints.

    Args:
        candidate: The candidate; decisions of a define-by-run space have no cost and pass.
        task: Task that the network is built for; None passes every candidate.
        constraints: Bounds on the cost.
    """
    try:
        cost = {} if task is None else candidate.cost(task)
        shapes = {} if task is None else candidate.shapes(task)
    except Exception as error:  # noqa: BLE001 - a user's block may raise anything
        failure = replace(classify(error), kind=FailureKind.BAD_CANDIDATE)
        return Screening(cost={}, violations={DOES_NOT_BUILD: 1.0}, failure=failure)
    return Screening(cost=cost, violations=violations_of(cost, constraints), shapes=shapes)


def rescreen(trials: Iterable[Trial], constraints: Sequence[Constraint]) -> tuple[Trial, ...]:
    """Return trials with their violations of the constraints as they are now."""
    return tuple(
        replace(trial, violations=violations_of(trial.cost, constraints)) if trial.cost else trial
        for trial in trials
    )


@dataclass(frozen=True, slots=True)
class CountedSample:
    """A candidate whose cost was counted, and which need not be trained."""

    params: Mapping[str, Any]
    """Decisions by name."""
    questions: Mapping[str, Question]
    """Their questions."""
    cost: Mapping[str, float]
    """`parameters`, `flops`, `activation_bytes`."""


def infeasibility(screening: Screening) -> str | None:
    """Return what keeps a candidate from being trained, as a predicate; None if it is feasible."""
    if screening.failure is not None:
        return f"does not build: {screening.failure.message}"
    over = [f"{name} by {by:.1%}" for name, by in screening.violations.items() if by > 0]
    return f"exceeds the limit of {', '.join(over)}" if over else None


def counted_samples(
    space: Space, task: Task | None, seeds: Sequence[int]
) -> tuple[CountedSample, ...]:
    """Return a uniform sample of a space with its costs, without what cannot be built or counted.

    Args:
        space: The study's space.
        task: Task that networks are built for; None counts nothing.
        seeds: Seed of each sample.
    """
    samples = []
    for seed in seeds if task is not None else ():
        suggester = RandomSuggester(seed)
        screening = screen(space.resolve(suggester), task, ())
        if screening.cost:
            samples.append(CountedSample(suggester.params, suggester.questions, screening.cost))
    return tuple(samples)
