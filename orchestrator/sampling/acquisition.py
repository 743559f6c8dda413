"""Acquisition: how promising a point is under a model's prediction of it."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

Array = NDArray[np.float64]

_SUM_WEIGHT = 0.05
"""Weight of the sum in the augmented Chebyshev distance (Knowles 2006)."""
_NUM_SAMPLES = 128


def expected_improvement(mean: Array, std: Array, best: float) -> Array:
    """Return the expected excess over the best, of normal distributions."""
    z = (mean - best) / std
    density = np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi)
    improvement: Array = std * (z * ndtr(z) + density)
    return improvement


def probability_below(mean: Array, std: Array, bound: float) -> Array:
    """Return the probability of a value of at most a bound, of normal distributions."""
    probability: Array = ndtr((bound - mean) / std)
    return probability


def random_weights(count: int, rng: np.random.Generator) -> Array:
    """Return weights of objectives, uniformly distributed over those that sum to 1."""
    return rng.dirichlet(np.ones(count))


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
    mean: Array, std: Array, weights: Array, best: float, rng: np.random.Generator
) -> Array:
    """Return the expected improvement of the Chebyshev scalarization, by Monte Carlo.

    Args:
        mean: Scaled scores, a row for each point and a column for each objective.
        std: Their standard deviations.
        weights: Weight of each objective.
        best: Best scalarization so far.
        rng: Source of the samples, which all points share.
    """
    noise = rng.standard_normal((_NUM_SAMPLES, 1, mean.shape[1]))
    samples = chebyshev(mean + std * noise, weights)
    improvement: Array = np.maximum(samples - best, 0).mean(axis=0)
    return improvement
