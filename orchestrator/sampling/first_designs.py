"""First designs: networks of every kind that a space offers, tried before a model proposes any.

A model of the space learns little from the default alone, and uniform samples are mostly poor. The
designs are the default with one structural decision changed, and known networks of the space.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.sampling.candidates import Space
from orchestrator.sampling.duplicates import digest_of
from orchestrator.sampling.screening import screen
from search_spaces.catalog.known import KNOWN, known
from search_spaces.domains import DomainError, SpaceError
from search_spaces.domains.suggester import ReplaySuggester, SuggestionError
from search_spaces.space import Constraint
from search_spaces.task import Task

SHARE = 0.25
"""Maximum share of a study's trials."""
MIN_TRIALS = 8
"""Trials below which a study has no first designs."""
UNLIMITED = 5
"""Maximum number of designs in a study that is limited by time only."""
MAX_COST = 3.0
"""Maximum FLOPs relative to the default."""
CHEAP_FLOPS = 1e6
"""FLOPs of an example up to which a network is never too dear: its training is mostly overhead."""

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstDesigns:
    """Rule by which a study chooses its first designs."""

    maximum: int
    """Maximum number of designs."""
    constraints: tuple[Constraint, ...] = ()
    """Bounds on the costs, in addition to the space's own."""
    preferred: tuple[Params, ...] = ()
    """Designs of earlier studies, which are tried before the others."""

    @classmethod
    def for_limit(
        cls,
        trials: int | None,
        constraints: Sequence[Constraint],
        preferred: Sequence[Params] = (),
    ) -> "FirstDesigns":
        """Return the rule for a study.

        Args:
            trials: Its maximum number of trials; None is without such a limit.
            constraints: Bounds on the costs, in addition to the space's own.
            preferred: Designs of earlier studies.
        """
        maximum = UNLIMITED
        if trials is not None:
            maximum = int(SHARE * trials) if trials >= MIN_TRIALS else 0
        return cls(maximum=maximum, constraints=tuple(constraints), preferred=tuple(preferred))

    def at_most(self, space: Space) -> int:
        """Return the maximum number of designs for a space; nothing is screened."""
        return min(self.maximum, len(self._options(space))) if self.maximum else 0

    def choose(self, space: Space, tried: Sequence[Params], task: Task | None) -> list[Params]:
        """Return parameters of the designs, each of another network.

        Those of earlier studies come first, then the most different ones.

        A function of its arguments only, so that a resumed study gets the same designs.

        Args:
            space: The study's space.
            tried: Parameters of the default and of the user's seed points.
            task: Task that networks are built for; None counts no costs.
        """
        options = self._options(space) if self.maximum else []
        if not options:
            return []
        constraints = (*self.constraints, *space.constraints)
        known_candidates = [space.resolve(ReplaySuggester(params)) for params in tried]
        digests = {digest_of(candidate, task) for candidate in known_candidates}
        costs = [screen(candidate, task, ()).cost for candidate in known_candidates[:1]]
        default_flops = costs[0].get("flops", math.inf) if costs else math.inf
        limit = max(MAX_COST * default_flops, CHEAP_FLOPS)
        designs: list[Params] = []
        for params in options:
            candidate = space.resolve(ReplaySuggester(params))
            screening, digest = screen(candidate, task, constraints), digest_of(candidate, task)
            affordable = screening.cost.get("flops", 0.0) <= limit
            if screening.feasible and affordable and digest not in digests:
                digests.add(digest)
                designs.append(params)
        first = [params for params in designs if params in self.preferred]
        others = [params for params in designs if params not in self.preferred]
        return [*first, *_most_different_first(others, [*tried, *first])][: self.maximum]

    def _options(self, space: Space) -> list[Params]:
        """Return the designs that the space contains, before they are screened."""
        preferred = [params for params in self.preferred if _is_in(space, params)]
        return [*preferred, *_designs(space)]


NO_DESIGNS = FirstDesigns(maximum=0)
"""Rule of a study whose sampler proposes right after the seed points."""


class FirstPoints:
    """Candidates before the sampler proposes: the default and seed points, then first designs."""

    def __init__(
        self, points: Sequence[Params], rule: FirstDesigns, space: Space, task: Task | None
    ) -> None:
        """Prepare the sequence; designs are screened when the first one is needed.

        Args:
            points: Parameters of the default and of the seed points.
            rule: Rule for the first designs.
            space: The study's space.
            task: Task that networks are built for; None counts no costs.
        """
        self._points, self._rule = points, rule
        self._space, self._task = space, task

    def get(self, number: int) -> Params | None:
        """Return the parameters for a trial number; None where the sampler proposes."""
        if number < len(self._points):
            return self._points[number]
        index = number - len(self._points)
        if index >= self._max_designs or index >= len(self._designs):
            return None  # a resumed study that is past its designs screens none
        return self._designs[index]

    @cached_property
    def _max_designs(self) -> int:
        return self._rule.at_most(self._space)

    @cached_property
    def _designs(self) -> Sequence[Params]:
        return self._rule.choose(self._space, self._points, self._task)


def _is_in(space: Space, params: Params) -> bool:
    """Return whether a space asks for exactly these decisions, and allows them."""
    replay = ReplaySuggester(params)
    try:
        space.resolve(replay)
    except (DomainError, SpaceError, SuggestionError):
        return False
    return not replay.unused()


def _designs(space: Space) -> Iterator[Params]:
    """Yield the structural alternatives of the default, then the known networks of the space."""
    yield from space.kinds()
    for name in KNOWN:
        try:
            yield space.encode_network(known(name))
        except (DomainError, SpaceError):
            continue  # most spaces contain few or none


def _most_different_first(designs: Sequence[Params], tried: Sequence[Params]) -> list[Params]:
    """Return the designs in farthest-first order: each as far as possible from all before it."""
    ordered, rest = list(tried), list(designs)
    while rest:
        # The first of equals, so that the order does not depend on anything else.
        farthest = max(rest, key=lambda one: min(_distance(one, other) for other in ordered))
        rest.remove(farthest)
        ordered.append(farthest)
    return ordered[len(tried) :]


def _distance(one: Params, other: Params) -> float:
    """Return the share of decisions that two candidates do not have in common (Jaccard)."""
    common = len(one.items() & other.items())
    return 1 - common / (len(one) + len(other) - common)
