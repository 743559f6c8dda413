"""Candidates sampled from a space, with their cost and failures, without training.

Sampling is a hundred times as fast as counting: many are sampled, and some of these are counted.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.preflight.deadline import Deadline
from orchestrator.sampling.candidates import resolve_candidate
from orchestrator.sampling.screening import DOES_NOT_BUILD, Screening, screen
from search_spaces.architecture import Architecture
from search_spaces.candidate import Candidate
from search_spaces.domains.suggester import RandomSuggester, ReplaySuggester, Suggester
from search_spaces.space import Constraint, SearchSpace
from search_spaces.task import Task
from workers.failures import classify


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledCandidate:
    """One candidate with its digest, cost and failure."""

    params: Mapping[str, Any]
    """Answers that lead to it."""
    candidate: Candidate
    network: str | None
    """Digest of its network, regardless of recipe and losses; None if it does not build."""
    failure: str | None = None
    """Reason why it does not build."""
    cost: Mapping[str, float] | None = None
    """`parameters`, `flops`, `activation_bytes`; None where they were not counted."""

    def violations(self, limits: Sequence[Constraint]) -> list[float]:
        """Return the violation of each constraint; for counted candidates only."""
        counted = self.cost or {}
        return [limit.violation(counted[limit.metric]) for limit in limits]

    def screening(self, limits: Sequence[Constraint]) -> Screening:
        """Return its screening result; for counted candidates only."""
        if self.failure is not None:
            return Screening(cost={}, violations={DOES_NOT_BUILD: 1.0})
        names = (limit.metric for limit in limits)
        violations = dict(zip(names, self.violations(limits), strict=True))
        return Screening(cost=self.cost or {}, violations=violations)

    def worst(self, limits: Sequence[Constraint]) -> float:
        """Return its largest violation; feasible candidates have at most 0."""
        return max(self.violations(limits), default=0.0)


class CandidateSampler:
    """Sampler and cost counter of candidates of one space for one task."""

    def __init__(self, config: StudyConfig, space: SearchSpace, task: Task) -> None:
        self.config = config
        self.space = space
        self.task = task

    def random(
        self, seed: int, at_most: int, deadline: Deadline, at_least: int = 1
    ) -> list[SampledCandidate]:
        """Return random candidates, equal for equal seeds; at least `at_least`, even past time."""
        probes: list[SampledCandidate] = []
        while len(probes) < max(at_most, at_least) and (deadline.left_s or len(probes) < at_least):
            suggester = RandomSuggester(seed + len(probes))
            probes.append(self.of(suggester, suggester.params))
        return probes

    def given(self, points: Iterable[Mapping[str, Any]]) -> list[SampledCandidate]:
        """Return the candidates of these parameters."""
        return [self.of(ReplaySuggester(point), point) for point in points]

    def of(self, suggester: Suggester, params: Mapping[str, Any]) -> SampledCandidate:
        """Return the candidate of the suggester's answers, which `params` then holds.

        Raises:
            ProblemsError: The user's own space raised.
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
        """Return the digest shared by all encodings of a network, regardless of recipe and losses.

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
        self, probes: Iterable[SampledCandidate], deadline: Deadline, at_least: int = 1
    ) -> Iterator[SampledCandidate]:
        """Yield the candidates with their cost while time is left; the first ones in any case.

        Candidates that do not build pass unchanged.
        """
        for number, probe in enumerate(probes):
            if number >= at_least and not deadline.left_s:
                return
            yield self.count(probe)

    def count(self, probe: SampledCandidate) -> SampledCandidate:
        """Return the candidate with its cost, or with the reason why it does not build."""
        if probe.failure is not None:
            return probe
        screened = screen(probe.candidate, self.task, ())
        if screened.failure is not None:
            return replace(probe, network=None, failure=screened.failure.message)
        return replace(probe, cost=screened.cost)
