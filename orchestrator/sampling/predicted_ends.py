"""Predicted ends: the final score of trials that were measured at a lower fidelity only."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_PRIOR_GRADIENT = 0.5
"""Gradient towards which the line of few trials is shrunk: early leads are half kept."""
_RIDGE = 0.3
"""Strength of the shrinkage: as that of one trial this far from the mean, relative to the range."""
_MIN_RESIDUAL = 0.1
"""Residual that is added once, relative to the range."""
_UNKNOWN_SPREAD = 0.3
"""Spread relative to the range while no trial has both scores."""
_EPSILON = 1e-9


def predicted_ends(curves: Array, finals: Array) -> tuple[Array, Array]:
    """Return the predicted final score of each trial, and the standard deviation of its error.

    For each rung, a line from the score at the rung to the final score is fitted to the trials that
    have both.

    Args:
        curves: Best score up to each rung, a row for each trial; NaN where not reached.
        finals: Final scores; NaN for trials that are not complete.

    Returns:
        Complete trials keep their score, with 0 as its error; trials without any score have NaN.
    """
    ends, spreads = finals.copy(), np.zeros(len(finals))
    incomplete = np.isnan(finals)
    measured = np.isfinite(curves)
    reached = np.where(measured, np.arange(curves.shape[1]), -1).max(axis=1, initial=-1)
    for rung in range(curves.shape[1]):
        last = incomplete & (reached == rung)
        if not last.any():
            continue
        scores = curves[:, rung]
        both = ~incomplete & np.isfinite(scores)
        span = np.ptp(scores[np.isfinite(scores)]) + _EPSILON
        if both.any():
            ends[last], spreads[last] = _line(scores[both], finals[both], scores[last], span)
        else:
            ends[last], spreads[last] = scores[last], _UNKNOWN_SPREAD * span
    return ends, spreads


def _line(early: Array, final: Array, scores: Array, span: float) -> tuple[Array, float]:
    """Return predictions for scores from a ridge regression, and their standard deviation."""
    x, y = early - early.mean(), final - final.mean()
    ridge = (_RIDGE * span) ** 2
    gradient = max(0.0, (x @ y + ridge * _PRIOR_GRADIENT) / (x @ x + ridge))
    residual = y - gradient * x
    spread = np.sqrt((residual @ residual + (_MIN_RESIDUAL * span) ** 2) / len(y))
    return final.mean() + gradient * (scores - early.mean()), float(spread)
