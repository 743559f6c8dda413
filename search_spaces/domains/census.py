"""Sizes of composite domains, in which a decision that several places read counts once."""

import math
from collections.abc import Iterable
from typing import Any

from search_spaces.domains.ranges import Domain

Census = dict[frozenset[str], float]
"""Number of values by the set of shared decisions they read, without the shared answers.

Multiplying sizes would count a decision that is read twice as two.
"""
ONE: Census = {frozenset(): 1}
"""Census of a single value."""


def total(domain: Domain[Any]) -> float:
    """Return the number of different values of a composite domain."""
    shared: dict[str, float] = {}
    sum_: float = 0
    for names, count in census_of(domain, shared).items():
        for name in names:
            count = _times(count, shared[name])  # noqa: PLW2901 - a running product
        sum_ = _plus(sum_, count)
    return sum_


def census_of(domain: Domain[Any], shared: dict[str, float]) -> Census:
    """Return the census of a domain; the sizes of shared decisions are added to `shared`.

    Domains that read shared decisions define a method `census` with the argument `shared`.
    """
    count = getattr(domain, "census", None)
    if count is None:
        return {frozenset(): domain.size()}
    census: Census = count(shared)
    return census


def added(parts: Iterable[Census]) -> Census:
    """Return the census of values of any part."""
    sums: Census = {}
    for part in parts:
        for names, count in part.items():
            sums[names] = _plus(sums.get(names, 0), count)
    return sums


def multiplied(one: Census, other: Census) -> Census:
    """Return the census of pairs of values."""
    products: Census = {}
    for left, left_count in one.items():
        for right, right_count in other.items():
            names = left | right
            products[names] = _plus(products.get(names, 0), _times(left_count, right_count))
    return products


def _times(one: float, other: float) -> float:
    """Return a product of counts; integers stay exact however large, also with infinities."""
    return math.inf if math.inf in (one, other) else one * other


def _plus(one: float, other: float) -> float:
    """Return a sum of counts, as exact as `_times`."""
    return math.inf if math.inf in (one, other) else one + other
