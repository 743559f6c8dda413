"""Number of distinct networks in a space: counted where possible, estimated elsewhere."""

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
"""Encodings that are enumerated; the networks of more are estimated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """Number of distinct networks, regardless of their recipe and losses."""

    count: float
    """Count or estimate."""
    low: float
    """Lower end of the 95 % confidence interval."""
    high: float
    """Upper end of it, as far as random samples show; infinite where they do not."""
    method: str
    """Method of counting or estimating."""
    encodings: float
    """Ways to decide an architecture; several may encode one network."""


def networks(sampler: CandidateSampler, sampled: Sequence[str], deadline: Deadline) -> Networks:
    """Count or estimate the distinct networks of a space.

    Args:
        sampler: The space and the task.
        sampled: Digests of randomly sampled networks.
        deadline: Time for counting.
    """
    encodings = _encodings(sampler.space)
    if encodings <= MAX_ENCODINGS:
        found = _written_out(sampler, deadline)
        if found is not None:
            method = f"counted: all {encodings:,.0f} encodings"
            return Networks(count=found, low=found, high=found, method=method, encodings=encodings)
    return estimate(sampled, encodings)


def estimate(sampled: Sequence[str], encodings: float) -> Networks:
    """Estimate the number of networks from repeated random samples (capture and recapture).

    Chao's estimator ("Estimating the Population Size for Capture-Recapture Data with Unequal
    Catchability", Biometrics 1987) with its log-normal interval: a lower bound where some are
    sampled more often than others, as here. Without repeated samples, only the birthday bound is
    left: of fewer than n(n-1)/6 equally likely ones, n samples repeat one in 95 % of cases.
    """
    total, often = len(sampled), Counter(Counter(sampled).values())
    seen, once, twice = sum(often.values()), often[1], often[2]
    if not twice:
        low = max(float(seen), total * (total - 1) / 6) if seen == total else float(seen)
        method = f"birthday bound: hardly a network came twice in {total:,} samples"
        low = min(low, encodings)
        return Networks(count=low, low=low, high=encodings, method=method, encodings=encodings)
    share, ratio = (total - 1) / total, once / twice
    unseen = share * once * ratio / 2
    variance = twice * (share / 2 * ratio**2 + share**2 * ratio**3 + share**2 / 4 * ratio**4)
    spread = math.exp(1.96 * math.sqrt(math.log(1 + variance / unseen**2))) if unseen else 1.0
    return Networks(
        count=min(encodings, seen + unseen),
        low=min(encodings, math.floor(seen + unseen / spread)),
        high=min(encodings, math.ceil(seen + unseen * spread)),
        method=f"Chao's lower bound on {total:,} samples, {total - seen:,} of them repeats",
        encodings=encodings,
    )


def _architectures(space: SearchSpace) -> Domain[Any] | None:
    """Return the domain that decides networks; None where it cannot be separated."""
    if isinstance(space.candidates, Record):
        return space.candidates.fields.get("architecture")
    return None


def _encodings(space: SearchSpace) -> float:
    domain = _architectures(space)
    return math.inf if domain is None else domain.size()


def _written_out(sampler: CandidateSampler, deadline: Deadline) -> int | None:
    """Return the number of networks among all encodings; None if time runs out first."""
    domain = _architectures(sampler.space)
    grid = GridSuggester()
    found = set()
    while domain is not None and not grid.over:
        if not deadline.left_s:
            return None
        grid.start()
        try:
            architecture = domain.resolve(grid, "architecture")
        except ContinuousDomainError:
            return None
        with suppress(
            Exception
        ):  # what does not build is no network; a user's block may raise anything
            found.add(sampler.digest(architecture))
        grid.advance()
    return None if domain is None else len(found)


class ContinuousDomainError(ArchscoutError):
    """A decision is continuous: its values cannot be enumerated."""


class GridSuggester(BaseSuggester):
    """A suggester that enumerates every combination of answers."""

    def __init__(self) -> None:
        self.over = False
        """Set once all combinations were given."""
        self._wheels: list[tuple[str, Sequence[Any], int]] = []
        self._given: dict[str, Any] = {}
        self._asked = 0

    def start(self) -> None:
        """Start the current combination."""
        self._given, self._asked = {}, 0

    def advance(self) -> None:
        """Move to the next combination, after all questions of this one were answered."""
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
