"""How long an epoch of a network takes here, predicted from a few that were timed.

The time of one example is taken as a * layers / batch size + b * FLOPs + c * activation bytes: what
each layer costs a step by itself, arithmetic, and memory traffic. Knows numbers only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

FEWEST_FOR_ALL = 5
"""Timed networks from which on three coefficients are told apart; below, arithmetic and memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What decides how long a network learns from one example."""

    flops: float
    activation_bytes: float
    layers: int
    batch_size: int

    def terms(self) -> tuple[float, float, float]:
        """The three numbers whose weighted sum is the time, each about 1 for a small network."""
        steps = self.layers / 10 * 64 / self.batch_size
        return (self.flops / 1e7, self.activation_bytes / 3e5, steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A network that was timed."""

    load: Load
    example_s: float
    """Seconds in which it learns from one example once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A machine's pace."""

    weights: tuple[float, float, float]
    """Seconds an example for each term of a load."""
    timed: int
    """Networks that it was learnt from."""
    error: float | None
    """Typical relative error (median) on networks that were left out in turn; None if too few were
    timed to tell."""

    def example_s(self, load: Load) -> float:
        """Seconds in which a network learns from one example once."""
        return sum(w * term for w, term in zip(self.weights, load.terms(), strict=True))


def learnt(timed: Sequence[Timed]) -> Pace:
    """The pace that the timed networks, at least one, tell."""
    errors = []
    for index, left_out in enumerate(timed):
        others = [*timed[:index], *timed[index + 1 :]]
        if len(others) > 1:
            guess = Pace(weights=_fitted(others), timed=0, error=None).example_s(left_out.load)
            errors.append(abs(np.log(guess / left_out.example_s)))
    error = float(np.expm1(np.median(errors))) if errors else None
    return Pace(weights=_fitted(timed), timed=len(timed), error=error)


def _fitted(timed: Sequence[Timed]) -> tuple[float, float, float]:
    """Weights of least relative error, none below zero."""
    terms = np.array([entry.load.terms() for entry in timed])
    relative = terms / np.array([[entry.example_s] for entry in timed])
    used = 3 if len(timed) >= FEWEST_FOR_ALL else 2 if len(timed) > 2 else 1
    best, best_rest = np.zeros(3), np.inf
    # Of so few terms every choice can be tried: the best one without a negative weight counts.
    for size in range(1, used + 1):
        for chosen in combinations(range(3 if used == 3 else 2), size):
            weights, rest = _least_squares(relative[:, chosen])
            if (weights >= 0).all() and rest < best_rest:
                best_rest, best = rest, np.zeros(3)
                best[list(chosen)] = weights
    return (float(best[0]), float(best[1]), float(best[2]))


def _least_squares(relative: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    weights = np.linalg.lstsq(relative, np.ones(len(relative)), rcond=None)[0].astype(np.float64)
    return weights, float(((relative @ weights - 1) ** 2).sum())
