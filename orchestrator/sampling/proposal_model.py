"""Proposal model: predicts scores and costs of candidates, and ranks samples by them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from orchestrator.objective import Objective
from orchestrator.sampling.acquisition import (
    chebyshev,
    chebyshev_improvement,
    expected_improvement,
)
from orchestrator.sampling.encoding import dense
from orchestrator.sampling.gaussian_process import GaussianProcess, rank_correlation
from orchestrator.sampling.history import History, Mask
from orchestrator.sampling.mutation import MutatingSuggester
from orchestrator.sampling.predicted_ends import predicted_ends
from search_spaces.space import Constraint

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

MIN_RESULTS = 4
"""Results below which nothing is predicted."""
MAX_RESULTS = 300
"""Maximum number of results in a model, half of them the best and half the newest: the time of a
fit grows with the third power."""
MAX_COSTS = 150
"""Maximum number of results, the newest, in a model of a cost, which is smoother."""
MAX_PENDING = 64
_CLIP = 4.0
"""Scores further below the best than this many times its distance to the median are raised to that
distance: failures must not set the scale."""
_EPSILON = 1e-9
_TINY = 1e-300


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTargets:
    """What a model predicts."""

    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    training_cost: tuple[str, ...]
    """Substitutes for the cost of training, the best one first."""

    @property
    def costs(self) -> tuple[str, ...]:
        """All costs that are predicted, each once."""
        objectives = (o.metric for o in self.objectives if o.is_cost)
        bounded = (c.metric for c in self.constraints)
        return tuple(dict.fromkeys((*self.training_cost, *bounded, *objectives)))


class ProposalModel:
    """Predictions for one proposal, from the trials known at that time.

    The merit of a sample is the expected improvement over the best feasible trial, times the
    probability that it is feasible, divided by its predicted cost. Several objectives are
    scalarized by an augmented Chebyshev distance with random weights that differ from proposal to
    proposal, so that the proposals cover the Pareto front (ParEGO; Knowles 2006).
    """

    def __init__(self, history: History, targets: ModelTargets, seed: int) -> None:
        """Predict the ends of all trials.

        Args:
            history: The study's trials.
            targets: What is predicted.
            seed: Seed of the weights and samples.
        """
        self._history, self._targets = history, targets
        self._rng = np.random.default_rng(seed)
        self._weights = self._rng.dirichlet(np.ones(len(targets.objectives)))
        self._scores, self._spreads = _scaled_scores(history, targets.objectives)
        self._values = chebyshev(self._scores, self._weights)
        self._known = np.flatnonzero(np.isfinite(self._values))

    def parents(self, count: int) -> Rows:
        """Return the rows of the best feasible trials; while there is none, of the closest one."""
        best = self._feasible()
        if len(best):
            return best[np.argsort(-self._values[best], kind="stable")][:count]
        excess = self._history.excess
        return np.array([np.argmin(excess)] if len(excess) else [], dtype=np.intp)

    def rank(self, samples: Sequence[MutatingSuggester]) -> list[MutatingSuggester]:
        """Return resolved samples by their merit, the best first.

        While predictions of known trials from the others do not correlate with their results, the
        order is that of feasibility alone.
        """
        encoder = self._history.encoder.copy()
        encodings = [encoder.encode(sample.params, sample.questions) for sample in samples]
        points = dense(encodings, encoder.width)
        merit = self._log_feasibility(points)
        if (improvement := self._improvement(points)) is not None:
            merit += np.log(np.maximum(improvement, _TINY)) - self._log_training_cost(points)
        return [samples[index] for index in np.argsort(-merit, kind="stable")]

    def _feasible(self) -> Rows:
        """Return the rows of the feasible trials that have a score."""
        usable = (self._history.excess == 0) & ~self._history.failed
        rows: Rows = self._known[usable[self._known]]
        return rows

    def _improvement(self, points: Array) -> Array | None:
        """Return the expected improvement at points; None where the scores cannot be predicted."""
        feasible = self._feasible()
        if len(feasible) < MIN_RESULTS:
            return None
        rows = _at_most(MAX_RESULTS, self._known, self._values)
        pending = np.setdiff1d(np.flatnonzero(self._history.open), self._known)
        width = points.shape[1]
        inputs, awaited = self._inputs(rows, width), self._inputs(pending[-MAX_PENDING:], width)
        models = [
            GaussianProcess(inputs, scores[rows], spreads[rows])
            for scores, spreads in zip(self._scores.T, self._spreads.T, strict=True)
        ]
        if rank_correlation(models[0].leave_one_out(), self._scores[rows, 0]) <= 0:
            return None
        best = float(self._values[feasible].max())
        predictions = [model.predict(points, awaited) for model in models]
        means, stds = (np.stack(each, axis=1) for each in zip(*predictions, strict=True))
        if len(models) == 1:
            best = float(self._scores[feasible].max())
            return expected_improvement(means[:, 0], stds[:, 0], best)
        return chebyshev_improvement(means, stds, self._weights, best, self._rng)

    def _log_feasibility(self, points: Array) -> Array:
        """Return the logarithm of the probability that points meet the bounds."""
        total = np.zeros(len(points))
        for constraint in self._targets.constraints:
            if prediction := self._log_cost(constraint.metric, points):
                mean, std = prediction
                total += log_ndtr((math.log(constraint.at_most) - mean) / std)
        return total

    def _log_training_cost(self, points: Array) -> Array:
        for name in self._targets.training_cost:
            if prediction := self._log_cost(name, points):
                return prediction[0]
        return np.zeros(len(points))

    def _log_cost(self, name: str, points: Array) -> tuple[Array, Array] | None:
        """Return mean and standard deviation of a cost's logarithm; None if too few are known.

        Infeasible trials, which are not trained, have costs too.
        """
        costs = self._history.log_costs(name)
        rows = np.flatnonzero(np.isfinite(costs))[-MAX_COSTS:]
        if len(rows) < MIN_RESULTS:
            return None
        return GaussianProcess(self._inputs(rows, points.shape[1]), costs[rows]).predict(points)

    def _inputs(self, rows: Rows, width: int) -> Array:
        """Return the features of trials."""
        return dense([self._history.encodings[row] for row in rows], width)


def _scaled_scores(history: History, objectives: Sequence[Objective]) -> tuple[Array, Array]:
    """Return each trial's predicted scores and their spreads, scaled to [0, 1] over the trials.

    Trials without a score have NaN.
    """
    scores, spreads = np.zeros((2, len(history), len(objectives)))
    for index, objective in enumerate(objectives):
        if objective.is_cost:
            # A front is the same on any scale, and logarithms are predicted best.
            scores[:, index] = objective.score(1.0) * history.log_costs(objective.metric)
        else:
            curves, finals = history.curves[:, index], history.finals[:, index]
            ends, spreads[:, index] = predicted_ends(curves, finals)
            scores[:, index] = _clipped(ends, history.failed)
        known = scores[np.isfinite(scores[:, index]), index]
        if len(known):
            span = np.ptp(known) + _EPSILON
            scores[:, index] = (scores[:, index] - known.min()) / span
            spreads[:, index] /= span
    return scores, spreads


def _clipped(ends: Array, failed: Mask) -> Array:
    """Return ends of which none is far below the others; failed trials have the lowest."""
    ends = np.where(failed, math.nan, ends)
    known = ends[np.isfinite(ends)]
    if not len(known):
        return ends
    below = max(known.max() - np.median(known), _EPSILON)
    ends = np.maximum(ends, known.max() - _CLIP * below)
    return np.where(failed, np.nanmin(ends), ends)


def _at_most(count: int, rows: Rows, values: Array) -> Rows:
    """Return the best half and the newest half of rows, by rising number."""
    if len(rows) <= count:
        return rows
    best = rows[np.argsort(-values[rows], kind="stable")][: count // 2]
    newest = np.setdiff1d(rows, best)[-(count - len(best)) :]
    return np.union1d(best, newest)
