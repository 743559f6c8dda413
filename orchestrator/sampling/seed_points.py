"""Seed points: the candidates that a study tries before its sampler proposes any."""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.errors import sanitize
from orchestrator.sampling.candidates import Space, user_space_error
from orchestrator.sampling.duplicates import digest_of
from orchestrator.seeds import derive_seed
from search_spaces.candidate import Candidate, Decisions
from search_spaces.catalog.known import known
from search_spaces.domains import DomainError, SpaceError
from search_spaces.domains.suggester import (
    BaseSuggester,
    Question,
    RandomSuggester,
    ReplaySuggester,
)
from search_spaces.errors import ArchscoutError, ExitCode
from search_spaces.plugins import UnknownNameError, did_you_mean
from search_spaces.task import Task


class SeedPointError(ArchscoutError, ValueError):
    """A seed point names an unknown decision, or a value outside the space."""

    exit_code = ExitCode.INPUT


def first_points(
    space: Space,
    seed_points: Sequence[Mapping[str, Any] | str],
    seed: int,
    task: Task | None = None,
) -> tuple[Mapping[str, Any], ...]:
    """Return parameters of the default and of the seed points, each candidate once.

    Args:
        space: The study's space.
        seed_points: Parameters by path, or the name of a known network, which is taken with the
            default recipe. Decisions that a point omits are sampled.
        seed: Seed of those samples.
        task: Task on which equal networks are found; None compares encodings.

    Raises:
        SeedPointError: A seed point does not fit the space.
        UserSpaceError: The user's define-by-run space raised an exception.
    """
    points: list[Mapping[str, Any]] = []
    seen = set()
    if (default := space.default_params()) is not None:
        points.append(default)
        seen.add(digest_of(space.resolve(ReplaySuggester(default)), task))
    for index, given in enumerate(seed_points):
        where = f"seed_points[{index}]"
        point = _network_params(space, given, where) if isinstance(given, str) else given
        suggester = _PartialSuggester(point, derive_seed(seed, "seed point", index))
        candidate = _resolve(space, suggester, where)
        if (digest := digest_of(candidate, task)) not in seen:
            seen.add(digest)
            points.append(suggester.params)
    return tuple(points)


def _resolve(space: Space, suggester: "_PartialSuggester", where: str) -> Candidate | Decisions:
    """Return the candidate of a seed point.

    Raises:
        SeedPointError: A value is outside the space, or a decision is unknown.
        UserSpaceError: The user's define-by-run space raised an exception.
    """
    try:
        candidate = space.resolve(suggester)
    except ValueError as error:
        raise SeedPointError(f"{where}: {error}") from error
    except Exception as error:  # a user's own function may raise anything
        raise user_space_error(error) from error
    if unknown := sorted(suggester.given - set(suggester.params)):
        raise SeedPointError(
            f"{where}.{unknown[0]}: the space has no such decision here."
            f"{did_you_mean(unknown[0], suggester.params)}"
        )
    return candidate


def _network_params(space: Space, name: str, where: str) -> Mapping[str, Any]:
    """Return the parameters of a known network in the space.

    Raises:
        SeedPointError: There is no such network, or the space does not contain it.
    """
    try:
        return space.encode_network(known(name))
    except (UnknownNameError, SpaceError) as error:
        raise SeedPointError(f"{where}: {error}") from error
    except DomainError as error:
        raise SeedPointError(
            f"{where}: network '{name}' is outside space '{space.name}'; search a space that "
            f"contains it unchanged. It differs at {sanitize(str(error), 200)}"
        ) from error


class _PartialSuggester(BaseSuggester):
    """Answers from a seed point, and at random for the decisions that it omits."""

    def __init__(self, point: Mapping[str, Any], seed: int) -> None:
        self.given = frozenset(point)
        self._fixed = ReplaySuggester(point)
        self._random = RandomSuggester(seed)
        self.params: dict[str, Any] = {}

    def answer(self, name: str, question: Question) -> Any:
        source = self._fixed if name in self.given else self._random
        self.params[name] = question.ask(source, name)
        return self.params[name]
