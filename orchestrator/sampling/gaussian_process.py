"""Gaussian process regression with a kernel that is half RBF and half linear.

The linear half carries effects that add up, as of most choices in an architecture; the RBF half
carries the rest. Lengths and variances come from a small grid by marginal likelihood, so a fit has
no state and no random numbers (Rasmussen and Williams 2006, algorithm 2.1 and equation 5.12).
"""

from dataclasses import dataclass
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

Array = NDArray[np.float64]

_LENGTHS = (0.1, 0.3, 1.0, 3.0)
"""Squared length scales of the RBF, relative to the median squared distance of the inputs."""
_AMPLITUDES = (0.3, 1.0)
_NOISES = (0.03, 0.1, 0.3)
"""Variances of the function and of the noise, relative to that of the targets."""
_LINEAR_OFFSET = 0.1
_MAX_EVIDENCE = 48
"""Number of results from which the settings are chosen; more cost time and change little."""
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True)
class _Points:
    """Points relative to the mean of the inputs.

    There the linear half of the kernel is 0: a feature that all inputs share says nothing.
    """

    features: Array
    """A row for each point."""
    norms: Array
    """Their squared distances from the mean."""

    @classmethod
    def around(cls, center: Array, points: Array) -> Self:
        """Return points whose features beyond those of the center are 0 there."""
        features = points.copy()
        features[:, : len(center)] -= center
        return cls(features, np.einsum("ij,ij->i", features, features))

    def products(self, other: Self) -> Array:
        """Return scalar products; features beyond the width of a set are 0 there."""
        width = min(self.features.shape[1], other.features.shape[1])
        products: Array = self.features[:, :width] @ other.features[:, :width].T
        return products

    def and_also(self, other: Self) -> Self:
        """Return the points of both; they have the same features."""
        features = np.vstack([self.features, other.features])
        return type(self)(features, np.append(self.norms, other.norms))


@dataclass(frozen=True, slots=True)
class _Kernel:
    """Prior covariance of two sets of points."""

    length: float
    """Squared length scale."""
    amplitude: float
    norm: float
    """Squared distance of a typical input from the mean, at which the linear half has the variance
    of the other."""

    def __call__(self, one: _Points, other: _Points) -> Array:
        """Return the covariance of each point with each other."""
        products = one.products(other)
        return self.covariance(products, one.norms[:, None] + other.norms - 2 * products)

    def covariance(self, products: Array, distances: Array) -> Array:
        """Return the covariance for scalar products and squared distances."""
        near = np.exp(np.maximum(distances, 0) / (-2 * self.length))
        linear = (products + _LINEAR_OFFSET) / self.norm
        covariance: Array = 0.5 * self.amplitude * (near + linear)
        return covariance

    def variance(self, points: _Points) -> Array:
        """Return the covariance of each point with itself."""
        return self.covariance(points.norms, np.zeros(len(points.norms)))


class GaussianProcess:
    """A Gaussian process fitted to results.

    Examples:
        >>> mean, std = GaussianProcess(inputs, targets).predict(points)
    """

    def __init__(self, inputs: Array, targets: Array, spread: Array | None = None) -> None:
        """Fit the process.

        Args:
            inputs: A row of features for each result.
            targets: The results.
            spread: Standard deviation of each result in addition to the common noise.
        """
        self._mean, self._std = targets.mean(), targets.std() + _EPSILON
        scaled = (targets - self._mean) / self._std
        extra = np.zeros(len(targets)) if spread is None else (spread / self._std) ** 2
        self._center, self._kernel, self._noise = _by_evidence(inputs, scaled, extra)
        self._inputs = _Points.around(self._center, inputs)
        covariance = self._kernel(self._inputs, self._inputs)
        covariance[np.diag_indices_from(covariance)] += self._noise + extra
        self._factor = np.linalg.cholesky(covariance)
        self._weights = cho_solve((self._factor, True), scaled, check_finite=False)

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation at points, without noise."""
        own = _Points.around(self._center, points)
        cross = self._kernel(self._inputs, own)
        explained = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        variance = self._kernel.variance(own) - (explained**2).sum(axis=0)
        mean: Array = self._mean + self._std * (cross.T @ self._weights)
        return mean, self._std * np.sqrt(np.maximum(variance, _EPSILON))

    def mean(self, points: Array) -> Array:
        """Return the mean at points alone, which costs less."""
        cross = self._kernel(self._inputs, _Points.around(self._center, points))
        mean: Array = self._mean + self._std * (cross.T @ self._weights)
        return mean

    def await_results(self, points: Array) -> None:
        """Add points as if their results were the predicted ones.

        This lowers the standard deviations near them, so that proposals whose results are awaited
        are not repeated. The means stay as they are: such results have no weight.
        """
        own = _Points.around(self._center, points)
        cross = solve_triangular(
            self._factor, self._kernel(self._inputs, own), lower=True, check_finite=False
        )
        covariance = self._kernel(own, own) - cross.T @ cross
        covariance[np.diag_indices_from(covariance)] += self._noise
        above = np.zeros_like(cross)
        self._factor = np.block([[self._factor, above], [cross.T, np.linalg.cholesky(covariance)]])
        self._inputs = self._inputs.and_also(own)
        self._weights = np.append(self._weights, np.zeros(len(points)))


def _by_evidence(inputs: Array, targets: Array, extra: Array) -> tuple[Array, _Kernel, float]:
    """Return center, kernel and noise with the largest marginal likelihood of some of the results.

    Args:
        inputs: A row of features for each result.
        targets: Standardized results.
        extra: Variance of each result in addition to the noise.
    """
    count = min(len(targets), _MAX_EVIDENCE)
    some = np.linspace(0, len(targets) - 1, count).astype(int)
    inputs, targets, extra = inputs[some], targets[some], extra[some]
    center = inputs.mean(axis=0)
    points = _Points.around(center, inputs)
    products = points.products(points)
    distances = points.norms[:, None] + points.norms - 2 * products
    median = max(float(np.median(distances[np.triu_indices(count, 1)])), _EPSILON)
    norm = float(points.norms.mean()) + _EPSILON
    unscaled = {
        length: _Kernel(length * median, 1.0, norm).covariance(products, distances)
        for length in _LENGTHS
    }
    grid = list(product(_LENGTHS, _AMPLITUDES, _NOISES))
    diagonal = np.arange(count)
    covariances = np.empty((len(grid), count + 1, count + 1))
    covariances[:, :-1, :-1] = [amplitude * unscaled[length] for length, amplitude, _ in grid]
    covariances[:, diagonal, diagonal] += np.array([noise for *_, noise in grid])[:, None] + extra
    # The last row of each factor is then that of the others times the targets, inverted; the
    # corner only has to be large enough.
    covariances[:, -1, :-1] = targets
    covariances[:, -1, -1] = 1 + targets @ targets / min(_NOISES)
    factors = np.linalg.cholesky(covariances)
    evidence = -0.5 * (factors[:, -1, :-1] ** 2).sum(axis=1)
    evidence -= np.log(factors[:, diagonal, diagonal]).sum(axis=1)
    length, amplitude, noise = grid[int(np.argmax(evidence))]
    return center, _Kernel(length * median, amplitude, norm), noise
