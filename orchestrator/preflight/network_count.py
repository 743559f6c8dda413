"""Number of distinct networks of a space: counted if it is small, estimated otherwise."""

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

MAX_ENCODINGS = 5000
"""Encodings that are enumerated; larger spaces are estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCount:
    """Number of distinct networks, without recipes and losses."""

    count: float
    """Number, or its estimate."""
    low: float
    """Lower end of the 95 % interval."""
    high: float
    """Upper end of the 95 % interval; infinite where the samples give none."""
    method: str
    """Description of the method."""
    encodings: float
    """Number of encodings; several may describe one network."""


def count_networks(
    sampler: CandidateSampler, sampled: Sequence[str], deadline: Deadline
) -> NetworkCount:
    """Count or estimate the distinct networks of a space.

    Args:
        sampler: Sampler of the space.
        sampled: Digests of random networks.
        deadline: Deadline of counting.
    """
    encodings = _encodings(sampler.space)
    if encodings <= MAX_ENCODINGS:
        found = _enumerate(sampler, deadline)
        if found is not None:
            method = f"counted: all {encodings:,.0f} encodings"
            return NetworkCount(
                count=found, low=found, high=found, method=method, encodings=encodings
            )
    return estimate(sampled, encodings)


def estimate(sampled: Sequence[str], encodings: float) -> NetworkCount:
    """Estimate the number of networks from repeated samples (capture-recapture).

    Chao's estimator ("Estimating the Population Size for Capture-Recapture Data with Unequal
    Catchability", Biometrics 1987) with its log-normal interval: a lower bound, because some
    networks are more likely than others. Without a repeat only the birthday bound remains: n
    samples of fewer than n(n-1)/6 equally likely networks repeat one with probability 95 %.
    """
    total, often = len(sampled), Counter(Counter(sampled).values())
    seen, once, twice = sum(often.values()), often[1], often[2]
    if not twice:
        low = max(float(seen), total * (total - 1) / 6) if seen == total else float(seen)
        method = f"birthday bound: hardly any repeats in {total:,} samples"
        low = min(low, encodings)
        return NetworkCount(count=low, low=low, high=encodings, method=method, encodings=encodings)
    share, ratio = (total - 1) / total, once / twice
    unseen = share * once * ratio / 2
    variance = twice * (share / 2 * ratio**2 + share**2 * ratio**3 + share**2 / 4 * ratio**4)
    spread = math.exp(1.96 * math.sqrt(math.log(1 + variance / unseen**2))) if unseen else 1.0
    return NetworkCount(
        count=min(encodings, seen + unseen),
        low=min(encodings, math.floor(seen + unseen / spread)),
        high=min(encodings, math.ceil(seen + unseen * spread)),
        method=f"Chao's lower bound from {total:,} samples, {total - seen:,} of them repeats",
        encodings=encodings,
    )


def _architectures(space: SearchSpace) -> Domain[Any] | None:
    """Return the domain of architectures; None where the space does not separate it."""
    if isinstance(space.candidates, Record):
        return space.candidates.fields.get("architecture")
    return None


def _encodings(space: SearchSpace) -> float:
    domain = _architectures(space)
    return math.inf if domain is None else domain.size()


def _enumerate(sampler: CandidateSampler, deadline: Deadline) -> int | None:
    """Return the number of distinct networks; None if the deadline passes or there is no grid."""
    domain = _architectures(sampler.space)
    grid = GridSuggester()
    found = set()
    while domain is not None and not grid.exhausted:
        if not deadline.remaining_s:
            return None
        grid.start()
        try:
            architecture = domain.resolve(grid, "architecture")
        except ContinuousDomainError:
            return None
        with suppress(Exception):  # skip networks that do not build; a user's block raises anything
            found.add(sampler.digest(architecture))
        grid.advance()
    return None if domain is None else len(found)


class ContinuousDomainError(ArchscoutError):
    """A decision is continuous, so its values cannot be enumerated."""


class GridSuggester(BaseSuggester):
    """A suggester that enumerates all combinations of values.

    Call `start` before each combination and `advance` after it, until `exhausted`.
    """

    def __init__(self) -> None:
        self.exhausted = False
        """True if all combinations were enumerated."""
        self._positions: list[tuple[str, Sequence[Any], int]] = []
        self._values: dict[str, Any] = {}
        self._depth = 0

    def start(self) -> None:
        """Start a combination."""
        self._values, self._depth = {}, 0

    def advance(self) -> None:
        """Move to the next combination, after the space was resolved with this one."""
        while self._positions:
            name, options, index = self._positions.pop()
            if index + 1 < len(options):
                self._positions.append((name, options, index + 1))
                return
        self.exhausted = True

    def answer(self, name: str, question: Question) -> Any:
        """Return the answer of the current combination.

        Raises:
            ContinuousDomainError: The question has no grid.
        """
        if name not in self._values:
            if self._depth == len(self._positions):
                self._positions.append((name, _options(name, question), 0))
            _, known, index = self._positions[self._depth]
            self._depth += 1
            self._values[name] = known[index]
        return self._values[name]


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
