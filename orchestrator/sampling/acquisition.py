"""Acquisition: how promising a point is under a model's prediction of it."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

_SUM_WEIGHT = 0.05
"""Weight of the sum in the augmented Chebyshev distance (Knowles 2006)."""


def expected_improvement(mean: Array, std: Array, best: float) -> Array:
    """Return the expected excess over the best, of normal distributions."""
    z = (mean - best) / std
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    improvement: Array = std * (z * ndtr(z) + density)
    return improvement


def chebyshev(scores: Array, weights: Array) -> Array:
    """Return the negated augmented Chebyshev distance of scores from 1, the best in each.

    Args:
        scores: Scores scaled to [0, 1], more being better; the last axis is that of the objectives.
        weights: Weight of each objective.
    """
    distances = weights * (1 - scores)
    value: Array = -distances.max(axis=-1) - _SUM_WEIGHT * distances.sum(axis=-1)
    return value


def chebyshev_improvement(
    mean: Array, std: Array, weights: Array, best: float, noise: Array
) -> Array:
    """Return the expected improvement of the Chebyshev scalarization, by Monte Carlo.

    Args:
        mean: Scaled scores, a row for each point and a column for each objective.
        std: Their standard deviations.
        weights: Weight of each objective.
        best: Best scalarization so far.
        noise: Samples of the standard normal distribution, a row for each sample.
    """
    samples = chebyshev(mean + std * noise[:, None], weights)
    improvement: Array = np.maximum(samples - best, 0).mean(axis=0)
    return improvement
