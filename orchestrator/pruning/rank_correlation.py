"""Rank correlation of weighted pairs: some pairs count as several."""

import math
from collections.abc import Sequence


def rank_correlation(
    xs: Sequence[float], ys: Sequence[float], weights: Sequence[float] | None = None
) -> float | None:
    """Return Spearman's rank correlation of pairs.

    Args:
        xs: First numbers.
        ys: Second numbers.
        weights: Number of times that each pair counts; 1 by default.

    Returns:
        -1 to 1; None if one side has no two different numbers.

    Examples:
        >>> rank_correlation([1, 2, 3], [10, 30, 20])
        0.5
    """
    shares = [1.0] * len(xs) if weights is None else list(weights)
    if len(set(xs)) < 2 or len(set(ys)) < 2:
        return None
    first, second = _ranks(xs, shares), _ranks(ys, shares)
    covariance = _covariance(first, second, shares)
    spread = math.sqrt(_covariance(first, first, shares) * _covariance(second, second, shares))
    return round(covariance / spread, 12)


def _ranks(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the mean rank of each value, each counted as often as its weight says."""
    below, rank = 0.0, {}
    for value in sorted(set(values)):
        own = math.fsum(w for v, w in zip(values, weights, strict=True) if v == value)
        rank[value] = below + (own + 1) / 2
        below += own
    return [rank[value] for value in values]


def _covariance(xs: Sequence[float], ys: Sequence[float], weights: Sequence[float]) -> float:
    total = math.fsum(weights)
    mean_x = math.fsum(w * x for w, x in zip(weights, xs, strict=True)) / total
    mean_y = math.fsum(w * y for w, y in zip(weights, ys, strict=True)) / total
    return math.fsum(
        w * (x - mean_x) * (y - mean_y) for w, x, y in zip(weights, xs, ys, strict=True)
    )
