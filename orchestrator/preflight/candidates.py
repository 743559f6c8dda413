"""Sampled candidates, with their cost where it was counted.

Sampling is a hundred times as fast as counting: many are sampled, and some of them are counted.
"""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.preflight.deadline import Deadline
from orchestrator.sampling.candidates import resolve_candidate
from orchestrator.sampling.mutation import PriorSuggester
from orchestrator.sampling.screening import DOES_NOT_BUILD, Screening, screen
from search_spaces.architecture import Architecture
from search_spaces.candidate import Candidate
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester, Suggester
from search_spaces.space import Constraint, SearchSpace
from search_spaces.task import Task
from workers.failures import classify


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledCandidate:
    """A candidate with its network's digest and cost."""

    params: Mapping[str, Any]
    """Parameters that resolve to it."""
    candidate: Candidate
    network: str | None
    """Digest of its network, without recipe and losses; None if it does not build."""
    failure: str | None = None
    """Error of a network that does not build; None otherwise."""
    cost: Mapping[str, float] | None = None
    """`parameters`, `flops`, `activation_bytes`; None where they were not counted."""

    def violations(self, limits: Sequence[Constraint]) -> list[float]:
        """Return the violation of each limit; counted candidates only."""
        counted = self.cost or {}
        return [limit.violation(counted[limit.metric]) for limit in limits]

    def screening(self, limits: Sequence[Constraint]) -> Screening:
        """Return the result of its screening; counted candidates only."""
        if self.failure is not None:
            return Screening(cost={}, violations={DOES_NOT_BUILD: 1.0})
        names = (limit.metric for limit in limits)
        violations = dict(zip(names, self.violations(limits), strict=True))
        return Screening(cost=self.cost or {}, violations=violations)

    def worst(self, limits: Sequence[Constraint]) -> float:
        """Return its largest violation; at most 0 is feasible."""
        return max(self.violations(limits), default=0.0)


class CandidateSampler:
    """Samples and counts candidates of one space for one task."""

    def __init__(self, config: StudyConfig, space: SearchSpace, task: Task) -> None:
        self.config = config
        self.space = space
        self.task = task

    def random(
        self, seed: int, at_most: int, deadline: Deadline, at_least: int = 1
    ) -> list[SampledCandidate]:
        """Return random candidates until the deadline, at least `at_least`; seeded."""
        samples: list[SampledCandidate] = []
        while len(samples) < max(at_most, at_least) and (
            deadline.remaining_s or len(samples) < at_least
        ):
            suggester = RandomSuggester(seed + len(samples))
            samples.append(self.resolve(suggester, suggester.params))
        return samples

    def likely(self, seed: int, count: int) -> Iterator[SampledCandidate]:
        """Yield candidates sampled from the priors, where decisions have one; seeded."""
        expected = self.space.expected()
        for number in range(count):
            rng = random.Random(seed + number)  # noqa: S311 - not for cryptography
            suggester = PriorSuggester({}, expected, rng)
            yield self.resolve(suggester, suggester.params)

    def from_points(self, points: Iterable[Mapping[str, Any]]) -> list[SampledCandidate]:
        """Return the candidates of given parameters."""
        return [self.resolve(ReplaySuggester(point), point) for point in points]

    def resolve(self, suggester: Suggester, params: Mapping[str, Any]) -> SampledCandidate:
        """Return the candidate that a suggester's values lead to.

        Args:
            suggester: Source of the values.
            params: Mapping that holds these values after the call.

        Raises:
            ProblemsError: The user's own space raised an exception.
        """
        candidate = resolve_candidate(self.config, self.space, suggester)
        if not isinstance(candidate, Candidate):
            raise TypeError(f"a SearchSpace gives candidates, not {candidate!r}")
        try:
            digest = self.digest(candidate.architecture)
        except Exception as error:  # noqa: BLE001 - a user's block may raise anything
            reason = classify(error).message
            return SampledCandidate(
                params=params, candidate=candidate, network=None, failure=reason
            )
        return SampledCandidate(params=params, candidate=candidate, network=digest)

    def digest(self, architecture: Architecture) -> str:
        """Return the digest of a network, equal for all its encodings.

        Raises:
            UnbuildableError: It does not fit the task.
        """
        plain = Candidate(
            architecture=architecture,
            space_name=self.space.name,
            space_version=self.space.version,
        )
        return plain.network_digest(self.task)

    def counted(
        self, samples: Iterable[SampledCandidate], deadline: Deadline, at_least: int = 1
    ) -> Iterator[SampledCandidate]:
        """Yield samples with their cost until the deadline, at least `at_least`.

        Samples that do not build are yielded unchanged.
        """
        for number, sample in enumerate(samples):
            if number >= at_least and not deadline.remaining_s:
                return
            yield self.count(sample)

    def count(self, sample: SampledCandidate) -> SampledCandidate:
        """Return the sample with its cost, or with the error if it does not build."""
        if sample.failure is not None:
            return sample
        screening = screen(sample.candidate, self.task, ())
        if screening.failure is not None:
            return replace(sample, network=None, failure=screening.failure.message)
        return replace(sample, cost=screening.cost)
