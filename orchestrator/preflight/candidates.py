"""Probes: candidates drawn from a space, with what can be known of each without training it.

Drawing is a hundred times as fast as counting: many are drawn, and some of these are counted.
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
    """One candidate and what is known of it."""

    params: Mapping[str, Any]
    """The answers that lead to it."""
    candidate: Candidate
    network: str | None
    """Digest of its network alone, whatever its recipe and losses; None if it does not build."""
    failure: str | None = None
    """Why it does not build."""
    cost: Mapping[str, float] | None = None
    """`parameters`, `flops`, `activation_bytes`; None where they were not counted."""

    def violations(self, limits: Sequence[Constraint]) -> list[float]:
        """By how much it exceeds each limit; to be asked of counted ones only."""
        counted = self.cost or {}
        return [limit.violation(counted[limit.metric]) for limit in limits]

    def screening(self, limits: Sequence[Constraint]) -> Screening:
        """It as screening has it; to be asked of counted ones only."""
        if self.failure is not None:
            return Screening(cost={}, violations={DOES_NOT_BUILD: 1.0})
        names = (limit.metric for limit in limits)
        violations = dict(zip(names, self.violations(limits), strict=True))
        return Screening(cost=self.cost or {}, violations=violations)

    def worst(self, limits: Sequence[Constraint]) -> float:
        """Its largest violation; at most 0 is feasible."""
        return max(self.violations(limits), default=0.0)


class CandidateSampler:
    """Draws and counts candidates of one space for one task."""

    def __init__(self, config: StudyConfig, space: SearchSpace, task: Task) -> None:
        self.config = config
        self.space = space
        self.task = task

    def random(
        self, seed: int, at_most: int, box: Deadline, at_least: int = 1
    ) -> list[SampledCandidate]:
        """Candidates by chance, equally for equal seeds: so many at least, whatever the time."""
        probes: list[SampledCandidate] = []
        while len(probes) < max(at_most, at_least) and (box.left_s or len(probes) < at_least):
            suggester = RandomSuggester(seed + len(probes))
            probes.append(self.of(suggester, suggester.params))
        return probes

    def given(self, points: Iterable[Mapping[str, Any]]) -> list[SampledCandidate]:
        """The candidates of these parameters."""
        return [self.of(ReplaySuggester(point), point) for point in points]

    def of(self, suggester: Suggester, params: Mapping[str, Any]) -> SampledCandidate:
        """The candidate that the answers lead to; they are in `params` once they were given.

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
        """What all spellings of a network share, whatever its recipe and losses.

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
        self, probes: Iterable[SampledCandidate], box: Deadline, at_least: int = 1
    ) -> Iterator[SampledCandidate]:
        """The probes with their cost, for as long as there is time; the first ones in any case.

        What does not build passes as it is.
        """
        for number, probe in enumerate(probes):
            if number >= at_least and not box.left_s:
                return
            yield self.count(probe)

    def count(self, probe: SampledCandidate) -> SampledCandidate:
        """The probe with its cost, or with the reason why it does not build after all."""
        if probe.failure is not None:
            return probe
        screened = screen(probe.candidate, self.task, ())
        if screened.failure is not None:
            return replace(probe, network=None, failure=screened.failure.message)
        return replace(probe, cost=screened.cost)
