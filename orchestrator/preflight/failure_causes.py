"""Decisions that keep candidates from building, by their association with failures.

A statement about a candidate is a decision's value, at its own place or at any place of a list, or
a number's bound. The statement with the largest log-likelihood ratio is named first (Dunning,
"Accurate Methods for the Statistics of Surprise and Coincidence", 1993), narrowed by a second one
where that explains more; then the failures that it covers are set aside. Works on answers by name,
without the space.
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
_SURPRISE = 3.0
"""Minimum log-likelihood ratio of a second statement; smaller ones are chance."""

Tried = tuple[Mapping[str, Any], str | None]
"""Answers of a candidate, and the reason why it does not build; None if it builds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCause:
    """A statement about candidates that is associated with not building."""

    decision: str
    """Statement, such as `architecture.streams.image.stages.*.window = 7`; `and` joins two."""
    sampled: int
    """Candidates for which it holds."""
    broken: int
    """Those that do not build."""
    reason: str
    """Most frequent reason."""

    def __str__(self) -> str:
        return f"{self.decision}: {self.broken:,} of {self.sampled:,} do not build: {self.reason}"


def find_failure_causes(tried: Sequence[Tried], at_most: int = 3) -> list[FailureCause]:
    """Return the likely causes of failures, the strongest first; empty if all build."""
    tried = _fewer(tried)
    broken = {index for index, (_, reason) in enumerate(tried) if reason is not None}
    statements = _statements(tried) if broken else {}
    found: list[FailureCause] = []
    remaining, everyone = set(broken), set(range(len(tried)))
    while len(found) < at_most and len(remaining) > 0.05 * len(broken):
        # Failures that are explained already say nothing more, neither for nor against.
        still = everyone - (broken - remaining)
        named = _best(statements, still, remaining)
        if named is None:
            break
        said, true_of = _narrowed(named, statements, still, remaining)
        hit = true_of & broken
        reasons = Counter(str(tried[index][1]) for index in sorted(hit))
        found.append(
            FailureCause(
                decision=said,
                sampled=len(true_of),
                broken=len(hit),
                reason=reasons.most_common(1)[0][0],
            )
        )
        remaining -= hit
    return found


def _fewer(tried: Sequence[Tried]) -> list[Tried]:
    """Return a subset that is fast to analyze, with failures and successes."""
    step = max(1, math.ceil(len(tried) / _MAX_CANDIDATES))
    bad = [entry for entry in tried if entry[1] is not None]
    if len(bad) < _MAX_CANDIDATES // 10:  # rare failures are worth more than their share
        return [*bad, *[entry for entry in tried if entry[1] is None][::step]]
    return list(tried[::step])


def _statements(tried: Sequence[Tried]) -> dict[str, set[int]]:
    """Return the indices of candidates for which each statement holds."""
    bounds = {name: _spread(values) for name, values in _numbers(tried).items()}
    statements: dict[str, set[int]] = {}
    for index, (params, _) in enumerate(tried):
        for name, value in params.items():
            for place in {name, re.sub(r"\.\d+(?=\.|$)", ".*", name)}:
                for said in _said(place, value, bounds[name]):
                    statements.setdefault(said, set()).add(index)
    return statements


def _said(place: str, value: Any, bounds: Sequence[float]) -> Iterator[str]:
    if not isinstance(value, float):
        yield f"{place} = {value}"
    for bound in bounds:
        if value >= bound:
            yield f"{place} >= {bound:g}"
        if value <= bound:
            yield f"{place} <= {bound:g}"


def _numbers(tried: Sequence[Tried]) -> dict[str, list[float]]:
    """Return the values of numeric decisions by name; an empty list for the others."""
    values: dict[str, list[float]] = {}
    for params, _ in tried:
        for name, value in params.items():
            numeric = isinstance(value, int | float) and not isinstance(value, bool)
            values.setdefault(name, [])
            if numeric:
                values[name].append(value)
    return values


def _spread(values: Sequence[float]) -> list[float]:
    """Return a few inner values, evenly spread; the two extremes bound nothing."""
    distinct = sorted(set(values))
    inner = distinct[1:-1]
    step = max(1, len(inner) // _BOUNDS)
    return inner[::step]


def _best(
    statements: Mapping[str, set[int]], among: set[int], broken: set[int]
) -> tuple[str, set[int]] | None:
    """Return the statement most strongly associated with failure."""

    def order(said: str) -> tuple[float, bool, bool, str]:
        true_of = statements[said] & among
        ratio = _ratio(len(true_of & broken), len(true_of), len(broken & among), len(among))
        return (-round(ratio, 6), " = " not in said, "*" in said, said)

    best = min(statements, key=order, default=None)
    return None if best is None or order(best)[0] >= 0 else (best, statements[best] & among)


def _narrowed(
    named: tuple[str, set[int]],
    statements: Mapping[str, set[int]],
    among: set[int],
    broken: set[int],
) -> tuple[str, set[int]]:
    """Return the statement joined with a second one if only both explain the failures."""
    said, true_of = named
    hit = true_of & broken
    if len(hit) == len(true_of):
        return named
    second = _best(statements, true_of, hit)
    if second is None:
        return named
    both = second[1] & among
    surprise = _ratio(len(both & hit), len(both), len(hit), len(true_of))
    if surprise < _SURPRISE or len(both & hit) < len(hit) / 2:
        return named
    return f"{said} and {second[0]}", both


def _ratio(hit: int, true_of: int, broken: int, everyone: int) -> float:
    """Return twice the log-likelihood ratio of failing with and without a statement; 0 if rarer."""
    if not true_of or hit * everyone < broken * true_of:
        return 0.0
    rest, rest_hit = everyone - true_of, broken - hit
    apart = _likelihood(hit, true_of) + _likelihood(rest_hit, rest)
    return 2 * (apart - _likelihood(broken, everyone))


def _likelihood(hit: int, of: int) -> float:
    return sum(part * math.log(part / of) for part in (hit, of - hit) if part)
