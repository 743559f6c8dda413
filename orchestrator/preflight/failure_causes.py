"""Likely causes of networks that do not build: decisions associated with failures.

A statement about a candidate is the value of a decision, at one index or at any index of a list, or
a bound of a number. The statement with the largest log-likelihood ratio is reported first (Dunning,
"Accurate Methods for the Statistics of Surprise and Coincidence", 1993), combined with a second one
where that explains more. The failures that it explains are then removed.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MAX_CANDIDATES = 1500
_BOUNDS = 8
"""Bounds tried for a number, spread over its values."""
_MIN_RATIO = 3.0
"""Minimum log-likelihood ratio of a second statement; smaller ones are due to chance."""

Tried = tuple[Mapping[str, Any], str | None]
"""Parameters of a candidate, and the error of its build or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCause:
    """A statement associated with failed builds."""

    decision: str
    """Such as `architecture.streams.image.stages.*.window = 7`; two are joined by `and`."""
    sampled: int
    """Number of candidates of which it is true."""
    broken: int
    """Number of those that do not build."""
    reason: str
    """Most frequent error of those."""

    def __str__(self) -> str:
        return f"{self.decision}: {self.broken:,} of {self.sampled:,} do not build: {self.reason}"


def find_failure_causes(tried: Sequence[Tried], at_most: int = 3) -> list[FailureCause]:
    """Return the likely causes of failed builds, most important first; empty if all build.

    Args:
        tried: The candidates.
        at_most: Maximum number of causes.
    """
    tried = _fewer(tried)
    broken = {index for index, (_, reason) in enumerate(tried) if reason is not None}
    statements = _statements(tried) if broken else {}
    found: list[FailureCause] = []
    remaining, everyone = set(broken), set(range(len(tried)))
    while len(found) < at_most and len(remaining) > 0.05 * len(broken):
        # Failures that are already explained count neither for nor against a statement.
        still = everyone - (broken - remaining)
        named = _best(statements, still, remaining)
        if named is None:
            break
        text, true_of = _narrowed(named, statements, still, remaining)
        hit = true_of & broken
        reasons = Counter(str(tried[index][1]) for index in sorted(hit))
        found.append(
            FailureCause(
                decision=text,
                sampled=len(true_of),
                broken=len(hit),
                reason=reasons.most_common(1)[0][0],
            )
        )
        remaining -= hit
    return found


def _fewer(tried: Sequence[Tried]) -> list[Tried]:
    """Return a subset that is analyzed quickly, with both kinds of candidates."""
    step = max(1, math.ceil(len(tried) / _MAX_CANDIDATES))
    bad = [entry for entry in tried if entry[1] is not None]
    if len(bad) < _MAX_CANDIDATES // 10:  # keep all failures where they are rare
        return [*bad, *[entry for entry in tried if entry[1] is None][::step]]
    return list(tried[::step])


def _statements(tried: Sequence[Tried]) -> dict[str, set[int]]:
    """Return the indices of the candidates of which each statement is true."""
    bounds = {name: _spread(values) for name, values in _numbers(tried).items()}
    statements: dict[str, set[int]] = {}
    for index, (params, _) in enumerate(tried):
        for name, value in params.items():
            for place in {name, re.sub(r"\.\d+(?=\.|$)", ".*", name)}:
                for text in _text(place, value, bounds[name]):
                    statements.setdefault(text, set()).add(index)
    return statements


def _text(place: str, value: Any, bounds: Sequence[float]) -> Iterator[str]:
    if not isinstance(value, float):
        yield f"{place} = {value}"
    for bound in bounds:
        if value >= bound:
            yield f"{place} >= {bound:g}"
        if value <= bound:
            yield f"{place} <= {bound:g}"


def _numbers(tried: Sequence[Tried]) -> dict[str, list[float]]:
    """Return all values of numeric decisions; an empty list for the others."""
    values: dict[str, list[float]] = {}
    for params, _ in tried:
        for name, value in params.items():
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            values.setdefault(name, [])
            if numeric:
                values[name].append(value)
    return values


def _spread(values: Sequence[float]) -> list[float]:
    """Return a few values, spread evenly, without the two extremes."""
    distinct = sorted(set(values))
    inner = distinct[1:-1]
    step = max(1, len(inner) // _BOUNDS)
    return inner[::step]


def _best(
    statements: Mapping[str, set[int]], among: set[int], broken: set[int]
) -> tuple[str, set[int]] | None:
    """Return the statement with the strongest association with failures."""

    def order(text: str) -> tuple[float, bool, bool, str]:
        true_of = statements[text] & among
        ratio = _ratio(len(true_of & broken), len(true_of), len(broken & among), len(among))
        return (-round(ratio, 6), " = " not in text, "*" in text, text)

    best = min(statements, key=order, default=None)
    return None if best is None or order(best)[0] >= 0 else (best, statements[best] & among)


def _narrowed(
    named: tuple[str, set[int]],
    statements: Mapping[str, set[int]],
    among: set[int],
    broken: set[int],
) -> tuple[str, set[int]]:
    """Return the statement combined with a second one, if only both explain the failures."""
    text, true_of = named
    hit = true_of & broken
    if len(hit) == len(true_of):
        return named
    second = _best(statements, true_of, hit)
    if second is None:
        return named
    both = second[1] & among
    ratio = _ratio(len(both & hit), len(both), len(hit), len(true_of))
    if ratio < _MIN_RATIO or len(both & hit) < len(hit) / 2:
        return named
    return f"{text} and {second[0]}", both


def _ratio(hit: int, true_of: int, broken: int, everyone: int) -> float:
    """Return twice the log-likelihood ratio of failures with and without a statement, or 0."""
    if not true_of or hit * everyone < broken * true_of:
        return 0.0
    rest, rest_hit = everyone - true_of, broken - hit
    apart = _likelihood(hit, true_of) + _likelihood(rest_hit, rest)
    return 2 * (apart - _likelihood(broken, everyone))


def _likelihood(hit: int, of: int) -> float:
    return sum(part * math.log(part / of) for part in (hit, of - hit) if part)
