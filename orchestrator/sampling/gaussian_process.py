"""Gaussian process regression with a kernel that is half RBF and half linear.

The linear half carries effects that add up, as of most choices in an architecture; the RBF half
carries the rest. Lengths and variances come from a small grid by marginal likelihood, so a fit has
no state and no random numbers (Rasmussen and Williams 2006, algorithm 2.1 and equation 5.12).
"""

from dataclasses import dataclass
from itertools import product

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
class _Kernel:
    """Prior covariance of two sets of points."""

    length: float
    """Squared length scale."""
    amplitude: float
    center: Array
    """Mean of the inputs, where the linear half is 0: a feature that all share says nothing."""
    norm: float
    """Squared distance of a typical input from the center, at which the linear half has the
    variance of the other."""

    def __call__(self, one: Array, other: Array) -> Array:
        """Return the covariance; features beyond the width of a set are 0 there."""
        one, other = self._centered(one), self._centered(other)
        width = min(one.shape[1], other.shape[1])
        products = one[:, :width] @ other[:, :width].T
        distances = _squared_norms(one)[:, None] + _squared_norms(other) - 2 * products
        near = np.exp(np.maximum(distances, 0) / (-2 * self.length))
        linear = (products + _LINEAR_OFFSET) / self.norm
        covariance: Array = 0.5 * self.amplitude * (near + linear)
        return covariance

    def variance(self, points: Array) -> Array:
        """Return the covariance of each point with itself."""
        linear = (_squared_norms(self._centered(points)) + _LINEAR_OFFSET) / self.norm
        variance: Array = 0.5 * self.amplitude * (1 + linear)
        return variance

    def _centered(self, points: Array) -> Array:
        width = len(self.center)
        padded = np.pad(points, ((0, 0), (0, max(0, width - points.shape[1]))))
        padded[:, :width] -= self.center
        return padded


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
        self._inputs = inputs
        self._mean, self._std = targets.mean(), targets.std() + _EPSILON
        scaled = (targets - self._mean) / self._std
        extra = np.zeros(len(targets)) if spread is None else (spread / self._std) ** 2
        self._kernel, self._noise = _by_evidence(inputs, scaled, extra)
        covariance = self._kernel(inputs, inputs)
        covariance[np.diag_indices_from(covariance)] += self._noise + extra
        self._factor = np.linalg.cholesky(covariance)
        self._weights = cho_solve((self._factor, True), scaled, check_finite=False)

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Return mean and standard deviation at points, without noise."""
        cross = self._kernel(self._inputs, points)
        explained = solve_triangular(self._factor, cross, lower=True, check_finite=False)
        variance = self._kernel.variance(points) - (explained**2).sum(axis=0)
        mean: Array = self._mean + self._std * (cross.T @ self._weights)
        return mean, self._std * np.sqrt(np.maximum(variance, _EPSILON))

    def await_results(self, points: Array) -> None:
        """Add points as if their results were the predicted ones.

        This lowers the standard deviations near them, so that proposals whose results are awaited
        are not repeated. The means stay as they are: such results have no weight.
        """
        cross = solve_triangular(
            self._factor, self._kernel(self._inputs, points), lower=True, check_finite=False
        )
        covariance = self._kernel(points, points) - cross.T @ cross
        covariance[np.diag_indices_from(covariance)] += self._noise
        above = np.zeros_like(cross)
        self._factor = np.block([[self._factor, above], [cross.T, np.linalg.cholesky(covariance)]])
        self._inputs = np.vstack([self._inputs, points])
        self._weights = np.append(self._weights, np.zeros(len(points)))


def _by_evidence(inputs: Array, targets: Array, extra: Array) -> tuple[_Kernel, float]:
    """Return kernel and noise with the largest marginal likelihood of some of the results.

    Args:
        inputs: A row of features for each result.
        targets: Standardized results.
        extra: Variance of each result in addition to the noise.
    """
    count = min(len(targets), _MAX_EVIDENCE)
    some = np.linspace(0, len(targets) - 1, count).astype(int)
    inputs, targets, extra = inputs[some], targets[some], extra[some]
    center = inputs.mean(axis=0)
    norms = _squared_norms(inputs - center)
    products = (inputs - center) @ (inputs - center).T
    distances = norms[:, None] + norms - 2 * products
    median = max(float(np.median(distances[np.triu_indices(count, 1)])), _EPSILON)
    norm = float(norms.mean()) + _EPSILON
    unscaled = {
        length: _Kernel(length * median, 1.0, center, norm)(inputs, inputs) for length in _LENGTHS
    }
    grid = list(product(_LENGTHS, _AMPLITUDES, _NOISES))
    covariances = np.stack([amplitude * unscaled[length] for length, amplitude, _ in grid])
    diagonal = np.arange(count)
    covariances[:, diagonal, diagonal] += np.array([noise for *_, noise in grid])[:, None] + extra
    factors = np.linalg.cholesky(covariances)
    white = np.linalg.solve(factors, np.broadcast_to(targets[:, None], (len(grid), count, 1)))
    evidence = -0.5 * (white[..., 0] ** 2).sum(axis=1)
    evidence -= np.log(factors[:, diagonal, diagonal]).sum(axis=1)
    length, amplitude, noise = grid[int(np.argmax(evidence))]
    return _Kernel(length * median, amplitude, center, norm), noise


def _squared_norms(points: Array) -> Array:
    norms: Array = (points**2).sum(axis=1)
    return norms
