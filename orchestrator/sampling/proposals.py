"""Proposals: which candidate comes next, drawn, deduplicated and screened.

The default recipe is trial 0, the user's seed points follow, then the sampler draws. A number
always means the same kind of proposal, so a resumed study needs no mark of how far it had come.
Knows no ledger and no engine: what is proposed becomes a trial only when the study records it.
"""

import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.clock import Clock
from orchestrator.errors import sanitize
from orchestrator.sampling.optuna_sampler import (
    MAX_RESAMPLES,
    OptunaDraw,
    OptunaSampler,
    derive_seed,
)
from orchestrator.sampling.rejection import RejectionSampler, RejectionStats
from orchestrator.sampling.screening import Screening, screen
from orchestrator.sampling.warm_start import NO_WARM_START, WarmStart
from orchestrator.trial import REUSED, Trial, TrialState
from search_spaces.candidate import Candidate, Decisions
from search_spaces.domains import DomainError, SpaceError
from search_spaces.domains.suggester import (
    BaseSuggester,
    Question,
    RandomSuggester,
    ReplaySuggester,
)
from search_spaces.errors import ArchscoutError, ExitCode
from search_spaces.plugins import UnknownNameError, did_you_mean
from search_spaces.space import Constraint, DefineByRunSpace, SearchSpace
from search_spaces.task import Task

MAX_DUPLICATES = 20
"""Duplicates answered in a row after which a space counts as tried."""

RECORDED_IN_A_ROW = 10
"""Refused proposals in a row that become trials; from then on rejection sampling helps."""

REPEATED_AFTER = 20
"""Refused proposals in a row after which a network that was trained is tried with another recipe:
by then rejection sampling has found no new feasible one in 400 draws."""

SMALL_SPACE = 1000
"""Candidates of a space whose refused ones are all recorded, so that its end is seen."""


class SeedPointError(ArchscoutError, ValueError):
    """A seed point names what the space does not ask, or lies outside of it."""

    exit_code = ExitCode.INPUT


class UserSpaceError(ArchscoutError):
    """The user's define-by-run space raised."""


Space = SearchSpace | DefineByRunSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate that may become a trial."""

    candidate: Candidate | Decisions
    digest: str
    """By which duplicates are told."""
    params: Mapping[str, Any]
    distributions: Mapping[str, str]
    screened: Screening
    twin: Trial | None
    """The known trial of the same digest, if every redraw was a duplicate."""
    earlier: Trial | None
    """The complete trial of the same digest in an earlier study that this one starts from."""
    draw: OptunaDraw | None
    """The open draw; None where the sampler knows the answer already, from the twin or earlier."""
    sampler_attrs: Mapping[str, Any]
    """What the sampler keeps with the trial."""

    def new_trial(self, number: int, *, seed: int) -> Trial:
        """The trial to record: waiting for a worker, or answered already."""
        twin, feasible = self.twin, self.screened.feasible
        answered_by = twin or self.earlier
        answer = (
            (twin.state, "duplicate", twin.values)
            if twin is not None
            else (TrialState.COMPLETE, REUSED, self.earlier.values)
            if self.earlier is not None
            else (TrialState.WAITING, None, None)
            if feasible
            else (TrialState.PRUNED, "infeasible", None)
        )
        return Trial(
            number=number,
            uid=uuid.uuid4().hex,
            parent=None if answered_by is None else answered_by.uid,
            params=self.params,
            distributions=self.distributions,
            candidate=self.candidate.to_dict(),
            digest=self.digest,
            seed=seed,
            sampler_attrs=self.sampler_attrs,
            state=answer[0],
            reason=answer[1],
            values=answer[2],
            violations=self.screened.violations,
            cost=self.screened.cost,
            shapes=self.screened.shapes,
            describe=self.candidate.describe(),
            failure=None if self.screened.failure is None else self.screened.failure.to_dict(),
        )


class Proposals:
    """The sequence of a study's candidates."""

    def __init__(
        self,
        *,
        space: Space,
        proposer: OptunaSampler,
        task: Task | None,
        constraints: Sequence[Constraint],
        given: Sequence[Mapping[str, Any]],
        clock: Clock,
        earlier: WarmStart = NO_WARM_START,
    ) -> None:
        """Prepares the sequence.

        Args:
            space: Where candidates come from.
            proposer: Draws them.
            task: What networks are built for; None counts no costs.
            constraints: Bounds on the costs, beside the space's own.
            given: Parameters of the first candidates, by number (see `first_points`).
            clock: Tells for how long no candidate has met the constraints.
            earlier: What earlier studies found; candidates of theirs need no training again.
        """
        self._space = space
        self._proposer = proposer
        self._task = task
        self._constraints = (*constraints, *space.constraints)
        self._given = tuple(given)
        self._answers, self._taught = earlier.answers, earlier.transferred_uids
        self.rejections = RejectionStats(clock)
        """What the constraints refused since this driver started."""
        self._rejection = (
            RejectionSampler(space, task, self._constraints, self.rejections)
            if task is not None and space.size() > SMALL_SPACE
            else None
        )

    def next(self, number: int, known: Mapping[str, Trial]) -> Proposal:
        """What to try as this trial number.

        Args:
            number: The trial's number in its study.
            known: The study's trials by digest.

        Raises:
            SpaceError: The user's define-by-run space raised.
        """
        if number < len(self._given):
            draw = self._proposer.draw(number, 0, self._given[number])
            return self._proposal(draw, self._resolve(draw), known={})
        given = self._feasible(number, known)
        for redraw in range(MAX_RESAMPLES + 1):
            draw = self._proposer.draw(number, redraw, given)
            proposal = self._proposal(draw, self._resolve(draw), known)
            if proposal.twin is None:
                break
        return proposal

    def exhausted(self, trials: Sequence[Trial]) -> bool:
        """Whether the space holds nothing new: all of it tried, or only duplicates found."""
        if _tail(trials, "duplicate") >= MAX_DUPLICATES:
            return True
        size = self._space.size()
        if len(trials) < size:
            return False
        return len({tuple(sorted(t.params.items())) for t in trials}) >= size

    def _feasible(self, number: int, known: Mapping[str, Trial]) -> Mapping[str, Any] | None:
        """Decisions of a feasible network; None where the sampler is to decide them."""
        refused = _tail(known.values(), "infeasible")
        if self._rejection is None or refused < RECORDED_IN_A_ROW:
            return None
        try:
            return self._rejection.architecture(
                known.values(),
                derive_seed(self._proposer.seed, "rejection", number),
                lambda candidate: digest_of(candidate, self._task) in known,
                repeat=refused >= REPEATED_AFTER,
            )
        except Exception as error:
            raise _raised(error) from error

    def _proposal(
        self, draw: OptunaDraw, candidate: Candidate | Decisions, known: Mapping[str, Trial]
    ) -> Proposal:
        digest = digest_of(candidate, self._task)
        twin = known.get(digest)
        screened = (
            screen(candidate, self._task, self._constraints)
            if twin is None
            else Screening(cost=twin.cost, violations=twin.violations)
        )
        if twin is None:
            self.rejections.add(screened)
        earlier = self._answers.get(digest) if twin is None and screened.feasible else None
        if settled := twin is not None or (earlier is not None and earlier.uid in self._taught):
            self._proposer.drop(draw)
        return Proposal(
            candidate=candidate,
            digest=digest,
            params=draw.params,
            distributions=draw.distributions,
            screened=screened,
            twin=twin,
            earlier=earlier,
            draw=None if settled else draw,
            sampler_attrs={} if settled else self._proposer.attributes(draw),
        )

    def _resolve(self, draw: OptunaDraw) -> Candidate | Decisions:
        try:
            return self._space.resolve(draw.suggester)
        except Exception as error:
            self._proposer.drop(draw)
            raise _raised(error) from error


def digest_of(candidate: Candidate | Decisions, task: Task | None) -> str:
    """By what duplicates are told: one for all spellings of a network on the task.

    Decisions of a user's own, and networks that do not fit the task, are told by their spelling.
    """
    if task is None:
        return candidate.digest
    try:
        return candidate.network_digest(task)
    except Exception:  # noqa: BLE001 - a user's block may raise anything; screening says why
        return candidate.digest


def first_points(
    space: Space,
    seed_points: Sequence[Mapping[str, Any] | str],
    seed: int,
    task: Task | None = None,
) -> tuple[Mapping[str, Any], ...]:
    """Parameters of the default candidate and of the seed points, each candidate once.

    What a seed point leaves open is drawn, equally for equal seeds. One that names a known network
    is that network under the default recipe.

    Raises:
        SeedPointError: A seed point does not fit the space.
        SpaceError: The user's define-by-run space raised.
    """
    points: list[Mapping[str, Any]] = []
    seen = set()
    if (default := space.default_params()) is not None:
        points.append(default)
        seen.add(digest_of(space.resolve(ReplaySuggester(default)), task))
    for index, given in enumerate(seed_points):
        point = _network(space, given, f"seed_points[{index}]") if isinstance(given, str) else given
        filling = _PartialSuggester(point, seed, index)
        try:
            candidate = space.resolve(filling)
        except ValueError as error:
            raise SeedPointError(f"seed_points[{index}]: {error}") from error
        except Exception as error:  # a user's own function may raise anything
            raise _raised(error) from error
        if unknown := sorted(set(point) - set(filling.params)):
            raise SeedPointError(
                f"seed_points[{index}].{unknown[0]}: the space asks no such thing here."
                f"{did_you_mean(unknown[0], filling.params)}"
            )
        if (digest := digest_of(candidate, task)) not in seen:
            seen.add(digest)
            points.append(filling.params)
    return tuple(points)


def _network(space: Space, name: str, where: str) -> Mapping[str, Any]:
    """Parameters of a known network in the space.

    Raises:
        SeedPointError: There is no such network, or the space does not hold it.
    """
    from search_spaces.catalog.known import known  # noqa: PLC0415 - loads torch

    try:
        return space.encode_network(known(name))
    except (UnknownNameError, SpaceError) as error:
        raise SeedPointError(f"{where}: {error}") from error
    except DomainError as error:
        raise SeedPointError(
            f"{where}: network '{name}' lies outside of space '{space.name}'; search a space that "
            f"holds it as it is. It differs at {sanitize(str(error), 200)}"
        ) from error


class _PartialSuggester(BaseSuggester):
    """Answers from a seed point, and at random what it leaves open."""

    def __init__(self, point: Mapping[str, Any], seed: int, index: int) -> None:
        self._given = ReplaySuggester(point)
        self._rest = RandomSuggester(derive_seed(seed, "seed point", index))
        self._names = frozenset(point)
        self.params: dict[str, Any] = {}

    def answer(self, name: str, question: Question) -> Any:
        self.params[name] = question.ask(self._given if name in self._names else self._rest, name)
        return self.params[name]


def _raised(error: Exception) -> UserSpaceError:
    return UserSpaceError(f"the space raised {type(error).__name__}: {error}")


def _tail(trials: Collection[Trial], reason: str) -> int:
    """How many of the newest trials in a row ended for this reason."""
    count = 0
    for trial in reversed(tuple(trials)):
        if trial.reason != reason:
            break
        count += 1
    return count
