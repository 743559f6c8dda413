"""How many different networks a space holds: counted where they can be, estimated elsewhere."""

import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from orchestrator.preflight.candidates import CandidateSampler
from orchestrator.preflight.deadline import Deadline
from search_spaces.domains import Domain, Record
from search_spaces.domains.suggester import (
    BaseSuggester,
    ChoiceQuestion,
    FloatQuestion,
    IntQuestion,
    Question,
    grid_point,
    grid_steps,
)
from search_spaces.errors import ArchscoutError
from search_spaces.space import SearchSpace

MAX_SPELLINGS = 5000
"""Spellings that are written out one by one; more are estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """How many different networks there are, whatever their recipe and losses."""

    count: float
    """The number, or its estimate."""
    low: float
    """With 95 % confidence there are at least so many."""
    high: float
    """With 95 % confidence, not more, as far as chance draws tell; infinite where they do not."""
    method: str
    """How it was found."""
    spellings: float
    """Ways to decide an architecture; several may spell one network."""


def networks(probing: CandidateSampler, drawn: Sequence[str], box: Deadline) -> Networks:
    """Counts or estimates the different networks of a space.

    Args:
        probing: The space and the task.
        drawn: Digests of the networks that chance drew.
        box: Time for counting.
    """
    spellings = _spellings(probing.space)
    if spellings <= MAX_SPELLINGS:
        found = _written_out(probing, box)
        if found is not None:
            method = f"counted: all {spellings:,.0f} spellings"
            return Networks(count=found, low=found, high=found, method=method, spellings=spellings)
    return estimate(drawn, spellings)


def estimate(drawn: Sequence[str], spellings: float) -> Networks:
    """How many there are, from how often chance draws one twice (capture and recapture).

    Chao's estimator ("Estimating the Population Size for Capture-Recapture Data with Unequal
    Catchability", Biometrics 1987) with its log-normal interval: a lower bound where some are
    drawn more easily than others, as here. Where no draw came twice, only the birthday bound is
    left: of fewer than n(n-1)/6 equally likely ones, n draws would repeat one in 95 % of cases.
    """
    total, often = len(drawn), Counter(Counter(drawn).values())
    seen, once, twice = sum(often.values()), often[1], often[2]
    if not twice:
        low = max(float(seen), total * (total - 1) / 6) if seen == total else float(seen)
        method = f"birthday bound: hardly a network came twice in {total:,} draws"
        low = min(low, spellings)
        return Networks(count=low, low=low, high=spellings, method=method, spellings=spellings)
    share, ratio = (total - 1) / total, once / twice
    unseen = share * once * ratio / 2
    variance = twice * (share / 2 * ratio**2 + share**2 * ratio**3 + share**2 / 4 * ratio**4)
    spread = math.exp(1.96 * math.sqrt(math.log(1 + variance / unseen**2))) if unseen else 1.0
    return Networks(
        count=min(spellings, seen + unseen),
        low=min(spellings, math.floor(seen + unseen / spread)),
        high=min(spellings, math.ceil(seen + unseen * spread)),
        method=f"Chao's lower bound on {total:,} draws, {total - seen:,} of them repeats",
        spellings=spellings,
    )


def _architectures(space: SearchSpace) -> Domain[Any] | None:
    """The part of the space that decides networks; None where it cannot be told apart."""
    if isinstance(space.candidates, Record):
        return space.candidates.fields.get("architecture")
    return None


def _spellings(space: SearchSpace) -> float:
    domain = _architectures(space)
    return math.inf if domain is None else domain.size()


def _written_out(probing: CandidateSampler, box: Deadline) -> int | None:
    """The number of networks among all spellings; None if they do not end in time."""
    domain = _architectures(probing.space)
    odometer = GridSuggester()
    found = set()
    while domain is not None and not odometer.over:
        if not box.left_s:
            return None
        odometer.start()
        try:
            architecture = domain.resolve(odometer, "architecture")
        except ContinuousDomainError:
            return None
        with suppress(Exception):  # what does not build is no network; a user's block raises any
            found.add(probing.digest(architecture))
        odometer.advance()
    return None if domain is None else len(found)


class ContinuousDomainError(ArchscoutError):
    """A decision is continuous: its answers cannot be written out."""


class GridSuggester(BaseSuggester):
    """A suggester that gives every combination of answers, one after the other."""

    def __init__(self) -> None:
        self.over = False
        """Whether all were given."""
        self._wheels: list[tuple[str, Sequence[Any], int]] = []
        self._given: dict[str, Any] = {}
        self._asked = 0

    def start(self) -> None:
        """Begins a combination."""
        self._given, self._asked = {}, 0

    def advance(self) -> None:
        """Goes on to the next one, once the questions of this one were answered."""
        while self._wheels:
            name, options, index = self._wheels.pop()
            if index + 1 < len(options):
                self._wheels.append((name, options, index + 1))
                return
        self.over = True

    def answer(self, name: str, question: Question) -> Any:
        """Return the answer of the current combination.

        Raises:
            ContinuousDomainError: The question has no grid.
        """
        if name not in self._given:
            if self._asked == len(self._wheels):
                self._wheels.append((name, _options(name, question), 0))
            _, known, index = self._wheels[self._asked]
            self._asked += 1
            self._given[name] = known[index]
        return self._given[name]


def _options(name: str, question: Question) -> Sequence[Any]:
    match question:
        case ChoiceQuestion(choices):
            return choices
        case IntQuestion(low, high, step):
            return range(low, high + 1, step)
        case FloatQuestion(low, high, step):
            if step is not None:
                steps = grid_steps(low, high, step) or 0
                return [grid_point(low, step, k) for k in range(steps + 1)]
            if low < high:
                raise ContinuousDomainError(name)
            return [low]
