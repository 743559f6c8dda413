"""Proposals: the next candidate of a study, sampled, deduplicated and screened.

The default candidate is trial 0, the user's seed points and the first designs follow, then the
sampler proposes. The number of proposals so far decides which kind is next, so a resumed study
needs no record of its progress. Designs that a user gives come in between, and delay none of them.
A proposal becomes a trial only when the study records it.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.clock import Clock
from orchestrator.sampling.candidates import Space, user_space_error
from orchestrator.sampling.duplicates import digest_of, exhausted, tail_length
from orchestrator.sampling.first_designs import FirstPoints
from orchestrator.sampling.rejection import RejectionSampler, RejectionStats
from orchestrator.sampling.sampler import MAX_RESAMPLES, Sampler, Suggestion
from orchestrator.sampling.screening import Screening, infeasibility, screen
from orchestrator.sampling.space_versions.added_choices import Choice, params_with
from orchestrator.sampling.warm_start import NO_WARM_START, WarmStart
from orchestrator.seeds import derive_seed
from orchestrator.trial import CHOICE, REUSED, Trial, TrialState
from search_spaces.candidate import Candidate, Decisions
from search_spaces.designs import Design, DesignError, fixed_decisions
from search_spaces.space import Constraint
from search_spaces.task import Task

MAX_INFEASIBLE_TRIALS = 10
"""Infeasible proposals in a row that become trials; after them rejection sampling starts."""

REPEAT_AFTER = 20
"""Infeasible proposals in a row after which a trained network is tried with another recipe: by then
rejection sampling has found no new feasible network in 400 samples."""

SMALL_SPACE = 1000
"""Size up to which all infeasible candidates of a space are recorded, so that its end is seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate that may become a trial."""

    candidate: Candidate | Decisions
    digest: str
    """Digest by which duplicates are found."""
    params: Mapping[str, Any]
    distributions: Mapping[str, str]
    screening: Screening
    duplicate_of: Trial | None
    """The known trial of the same digest, if every resample was a duplicate."""
    reused_trial: Trial | None
    """The complete trial of the same digest in a study named by `warm_start`."""
    suggestion: Suggestion | None
    """The sampler's open suggestion; None where the sampler already knows the result."""
    sampler_attrs: Mapping[str, Any]
    """Attributes that the sampler stores with the trial."""

    def new_trial(self, number: int, *, seed: int) -> Trial:
        """Return the trial to record: waiting for a worker, or with a known result."""
        state, reason, source = TrialState.WAITING, None, None
        if self.duplicate_of is not None:
            source = self.duplicate_of
            # A paused original has no result yet, and may never have one.
            state = TrialState.PRUNED if source.paused else source.state
            reason = "duplicate"
        elif self.reused_trial is not None:
            source = self.reused_trial
            state, reason = TrialState.COMPLETE, REUSED
        elif not self.screening.feasible:
            state, reason = TrialState.PRUNED, "infeasible"
        failure = self.screening.failure
        return Trial(
            number=number,
            uid=uuid.uuid4().hex,
            parent=None if source is None else source.uid,
            params=self.params,
            distributions=self.distributions,
            candidate=self.candidate.to_dict(),
            digest=self.digest,
            seed=seed,
            sampler_attrs=self.sampler_attrs,
            state=state,
            reason=reason,
            values=None if source is None else source.values,
            violations=self.screening.violations,
            cost=self.screening.cost,
            shapes=self.screening.shapes,
            describe=self.candidate.describe(),
            failure=None if failure is None else failure.to_dict(),
        )


class Proposals:
    """The sequence of a study's candidates."""

    def __init__(
        self,
        *,
        space: Space,
        sampler: Sampler[Any],
        seed: int,
        task: Task | None,
        constraints: Sequence[Constraint],
        first_points: FirstPoints,
        clock: Clock,
        warm_start: WarmStart = NO_WARM_START,
    ) -> None:
        """Prepare the sequence.

        Args:
            space: The study's space.
            sampler: Proposes candidates.
            seed: The study's seed.
            task: Task that networks are built for; None counts no costs.
            constraints: Bounds on the costs, in addition to the space's own.
            first_points: Candidates before the sampler proposes.
            clock: Measures how long no candidate has met the constraints.
            warm_start: Results of earlier studies; their candidates are not trained again.
        """
        self._space = space
        self._sampler = sampler
        self._seed = seed
        self._task = task
        self._constraints = (*constraints, *space.constraints)
        self._first_points = first_points
        self._warm_start = warm_start
        self._transferred_uids = warm_start.transferred_uids
        self.rejections = RejectionStats(clock)
        """Candidates that the constraints rejected since this driver started."""
        self._rejection_sampler = (
            RejectionSampler(space, task, self._constraints, self.rejections)
            if task is not None and space.size() > SMALL_SPACE
            else None
        )

    def next(
        self,
        number: int,
        position: int,
        by_digest: Mapping[str, Trial],
        choice: Choice | None = None,
    ) -> Proposal:
        """Return the proposal for a trial number.

        A first point that a user's design has anticipated is left out for a sampled candidate.

        Args:
            number: The trial's number in its study.
            position: Number of the study's own proposals so far.
            by_digest: The study's trials by digest.
            choice: A choice that the candidate shall have; None leaves all to the sampler.

        Raises:
            UserSpaceError: The user's define-by-run space raised an exception.
        """
        if choice is not None:
            found = self._with_choice(number, choice, by_digest)
            if found is not None:
                return found
        if (first := self._first_point(position)) is not None:
            proposal = self._proposal(*self._sample(number, 0, first), by_digest)
            if proposal.duplicate_of is None:
                return proposal
        fixed = self._feasible_params(number, by_digest)
        for resample in range(MAX_RESAMPLES + 1):
            suggestion, candidate = self._sample(number, resample, fixed)
            proposal = self._proposal(suggestion, candidate, by_digest)
            if proposal.duplicate_of is None:
                break
        return proposal

    def complete(self, number: int, design: Design, by_digest: Mapping[str, Trial]) -> Proposal:
        """Return a new feasible candidate of a design, whose open decisions the sampler makes.

        Args:
            number: The trial's number in its study.
            design: Decisions given by a user.
            by_digest: The study's trials by digest.

        Raises:
            DesignError: The design does not fit the space, or no such candidate was found.
            UserSpaceError: The user's define-by-run space raised an exception.
        """
        try:
            fixed = fixed_decisions(self._space, design)
        except DesignError:
            raise
        except Exception as error:
            raise user_space_error(error) from error
        for resample in range(MAX_RESAMPLES + 1):
            proposal = self._proposal(*self._sample(number, resample, fixed), by_digest)
            if proposal.suggestion is not None:  # recorded trials tell the sampler
                self._sampler.discard(proposal.suggestion)
            reason = _obstacle(proposal, design)
            if reason is None:
                return replace(proposal, suggestion=None)
            if proposal.params.keys() <= fixed.keys():
                raise DesignError(f"the design {reason}")
        raise DesignError(
            f"none of {MAX_RESAMPLES + 1} candidates of this design may run; the last one {reason}"
        )

    def _with_choice(
        self, number: int, choice: Choice, by_digest: Mapping[str, Trial]
    ) -> Proposal | None:
        """Return a new candidate with an added choice; None if none is found."""
        name, value = choice
        for resample in range(MAX_RESAMPLES + 1):
            seed = derive_seed(self._seed, "choice", number, resample)
            try:
                fixed = params_with(choice, self._space, seed, complete=resample > 0)
            except Exception as error:
                raise user_space_error(error) from error
            proposal = self._proposal(*self._sample(number, resample, fixed), by_digest)
            if proposal.duplicate_of is None and proposal.params.get(name) == value:
                return replace(proposal, sampler_attrs={**proposal.sampler_attrs, CHOICE: name})
            if proposal.suggestion is not None:
                self._sampler.discard(proposal.suggestion)
        return None

    def exhausted(self, trials: Sequence[Trial]) -> bool:
        """Return whether every candidate was tried, or only duplicates are found."""
        return exhausted(trials, self._space)

    def _first_point(self, number: int) -> Mapping[str, Any] | None:
        try:
            return self._first_points.get(number)
        except Exception as error:  # a first design resolves the user's blocks
            raise user_space_error(error) from error

    def _feasible_params(
        self, number: int, by_digest: Mapping[str, Trial]
    ) -> Mapping[str, Any] | None:
        """Return parameters of a feasible network; None leaves the choice to the sampler."""
        infeasible = tail_length(by_digest.values(), "infeasible")
        if self._rejection_sampler is None or infeasible < MAX_INFEASIBLE_TRIALS:
            return None
        try:
            return self._rejection_sampler.architecture(
                by_digest.values(),
                derive_seed(self._seed, "rejection", number),
                lambda candidate: digest_of(candidate, self._task) in by_digest,
                repeat=infeasible >= REPEAT_AFTER,
            )
        except Exception as error:
            raise user_space_error(error) from error

    def _proposal(
        self,
        suggestion: Suggestion,
        candidate: Candidate | Decisions,
        by_digest: Mapping[str, Trial],
    ) -> Proposal:
        digest = digest_of(candidate, self._task)
        original, reused = by_digest.get(digest), None
        if original is not None:
            screening = Screening(cost=original.cost, violations=original.violations)
        else:
            screening = screen(candidate, self._task, self._constraints)
            self.rejections.add(screening)
            reused = self._warm_start.complete.get(digest) if screening.feasible else None
        transferred = reused is not None and reused.uid in self._transferred_uids
        if known := original is not None or transferred:
            self._sampler.discard(suggestion)
        return Proposal(
            candidate=candidate,
            digest=digest,
            params=suggestion.params,
            distributions=suggestion.distributions,
            screening=screening,
            duplicate_of=original,
            reused_trial=reused,
            suggestion=None if known else suggestion,
            sampler_attrs={} if known else self._sampler.attributes(suggestion),
        )

    def _sample(
        self, number: int, resample: int, fixed: Mapping[str, Any] | None
    ) -> tuple[Suggestion, Candidate | Decisions]:
        """Return a suggestion and its candidate; a sampler may run the user's space itself."""
        suggestion = None
        try:
            suggestion = self._sampler.sample(number, resample, fixed)
            return suggestion, self._space.resolve(suggestion.suggester)
        except Exception as error:
            if suggestion is not None:
                self._sampler.discard(suggestion)
            raise user_space_error(error) from error


def _obstacle(proposal: Proposal, design: Design) -> str | None:
    """Return the reason why a candidate of a design becomes no trial; None if it may."""
    if missing := sorted(design.params.keys() - proposal.params.keys()):
        return f"does not ask for {missing[0]}; give the choices that lead to it too"
    if proposal.duplicate_of is not None:
        return f"equals trial {proposal.duplicate_of.number}"
    return infeasibility(proposal.screening)
