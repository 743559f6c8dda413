"""Proposal model: predicts scores and costs of candidates, and ranks samples by them."""

import math
from collections.abc import Callable, Sequence
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
from orchestrator.sampling.gaussian_process import GaussianProcess
from orchestrator.sampling.history import History, Mask
from orchestrator.sampling.mutation import MutatingSuggester
from orchestrator.sampling.predicted_ends import predicted_ends
from orchestrator.sampling.screening import CountedSample
from orchestrator.sampling.transfer.prior_mean import TransferPrior
from orchestrator.sampling.transfer.source_model import SourceModel
from search_spaces.space import Constraint

Array = NDArray[np.float64]
Rows = NDArray[np.intp]

MIN_RESULTS = 8
"""Results of feasible trials below which no scores are predicted."""
MIN_RESULTS_WITH_SOURCES = 4
"""The same where an earlier study on other data ranks the results better than chance."""
MIN_COSTS = 4
"""Known costs below which no others are predicted."""
MAX_RESULTS = 200
"""Maximum number of results in a model, half of them the best and half the newest: the time of a
fit grows with the third power."""
MAX_COSTS = 100
"""Maximum number of results, the newest, in a model of a cost, which is smoother."""
MAX_PENDING = 32
"""Maximum number of proposals whose results are awaited, the newest, in a model."""
_NUM_SAMPLES = 128
"""Monte Carlo samples of the improvement in several objectives."""
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
        return tuple(dict.fromkeys((*self.training_cost, *self.bounded, *objectives)))

    @property
    def bounded(self) -> tuple[str, ...]:
        """Costs that constraints bound."""
        return tuple(constraint.metric for constraint in self.constraints)


class ProposalModel:
    """Predictions for one proposal, from the trials known at that time.

    The merit of a sample is the expected improvement over the best feasible trial, times the
    probability that it is feasible, divided by its predicted cost. Several objectives are
    scalarized by an augmented Chebyshev distance with random weights that differ from proposal to
    proposal, so that the proposals cover the Pareto front (ParEGO; Knowles 2006).
    """

    def __init__(
        self,
        history: History,
        targets: ModelTargets,
        seed: int,
        counted: Callable[[], Sequence[CountedSample]] = tuple,
        sources: Sequence[SourceModel] = (),
    ) -> None:
        """Fit the models.

        Args:
            history: The study's trials.
            targets: What is predicted.
            seed: Seed of the weights and of Monte Carlo samples.
            counted: Returns candidates that only models of costs learn from; called if costs are
                predicted.
            sources: Models of earlier studies on other data.
        """
        rng, count = np.random.default_rng(seed), len(targets.objectives)
        self._history, self._targets = history, targets
        self._encoder = history.encoder.copy()
        self._weights = rng.dirichlet(np.ones(count))
        self._noise = rng.standard_normal((_NUM_SAMPLES, count))
        self._scores, self._spreads = scaled_scores(history, targets.objectives)
        self._values = chebyshev(self._scores, self._weights)
        self._known = np.flatnonzero(np.isfinite(self._values))
        usable = (history.excess == 0) & ~history.failed
        self._feasible = self._known[usable[self._known]]
        self._prior = TransferPrior(sources, history.params, self._scores)
        self._score_models = self._fit_scores()
        used = (*targets.bounded, *(targets.training_cost if self.predicts_scores else ()))
        # Encoded after the history's: a resumed study has the same features in the same order.
        self._counted = [
            (self._encoder.encode(each.params, each.questions), each.cost)
            for each in (counted() if used else ())
        ]
        self._cost_models = {name: self._fit_cost(name) for name in targets.bounded}
        self._training_cost = self._fit_training_cost() if self.predicts_scores else None

    @property
    def predicts_scores(self) -> bool:
        """True if there are enough results."""
        return bool(self._score_models)

    def parents(self, count: int) -> Rows:
        """Return the rows of the best feasible trials; while there is none, of the closest one."""
        best: Rows = self._feasible
        excess = self._history.excess
        if len(best):
            best = best[np.argsort(-self._values[best], kind="stable")]
            return best[:count]
        return np.array([np.argmin(excess)] if len(excess) else [], dtype=np.intp)

    def merit(self, samples: Sequence[MutatingSuggester]) -> Array:
        """Return the logarithm of the merit of resolved samples.

        That of feasibility alone while scores cannot be predicted.
        """
        encodings = [self._encoder.encode(each.params, each.questions) for each in samples]
        points = dense(encodings, self._encoder.width)
        merit = self._log_feasibility(points)
        if self.predicts_scores:
            prior = self._prior.predict([each.params for each in samples])
            merit += np.log(np.maximum(self._improvement(points, prior), _TINY))
            merit -= self._log_training_cost(points)
        return merit

    def _improvement(self, points: Array, prior: Array) -> Array:
        predictions = []
        for model, own in zip(self._score_models, prior.T, strict=True):
            mean, std = model.predict(points)
            predictions.append((mean + own, std))
        if len(predictions) == 1:
            return expected_improvement(*predictions[0], self._scores[self._feasible].max())
        means, stds = (np.stack(each, axis=1) for each in zip(*predictions, strict=True))
        best = self._values[self._feasible].max()
        return chebyshev_improvement(means, stds, self._weights, best, self._noise)

    def _log_feasibility(self, points: Array) -> Array:
        """Return the logarithm of the probability that points meet the constraints."""
        total = np.zeros(len(points))
        for constraint in self._targets.constraints:
            if model := self._cost_models[constraint.metric]:
                mean, std = model.predict(points)
                total += log_ndtr((math.log(constraint.at_most) - mean) / std)
        return total

    def _log_training_cost(self, points: Array) -> Array:
        model = self._training_cost
        return np.zeros(len(points)) if model is None else model.predict(points)[0]

    def _fit_scores(self) -> list[GaussianProcess]:
        """Return a model of each objective; none while there are too few results."""
        enough = MIN_RESULTS_WITH_SOURCES if self._prior.informs else MIN_RESULTS
        if len(self._feasible) < enough:
            return []
        rows = _at_most(MAX_RESULTS, self._known, self._values)
        inputs, scores = self._inputs(rows), self._scores[rows] - self._prior.of_trials[rows]
        models = [
            GaussianProcess(inputs, *each)
            for each in zip(scores.T, self._spreads[rows].T, strict=True)
        ]
        pending = np.setdiff1d(np.flatnonzero(self._history.open), self._known)[-MAX_PENDING:]
        for model in models:
            model.await_results(self._inputs(pending))
        return models

    def _fit_training_cost(self) -> GaussianProcess | None:
        """Return a model of the first training cost of which enough are known."""
        for name in self._targets.training_cost:
            if model := self._cost_models.get(name) or self._fit_cost(name):
                return model
        return None

    def _fit_cost(self, name: str) -> GaussianProcess | None:
        """Return a model of a cost's logarithm; None while too few are known.

        Infeasible trials, which are not trained, have costs too.
        """
        costs = self._history.log_costs(name)
        rows = np.flatnonzero(np.isfinite(costs))[-MAX_COSTS:]
        counted = [(row, math.log(cost[name])) for row, cost in self._counted if cost.get(name)]
        known = [*counted, *((self._history.encodings[row], costs[row]) for row in rows)]
        if len(known) < MIN_COSTS:
            return None
        encodings, targets = zip(*known, strict=True)
        return GaussianProcess(dense(encodings, self._encoder.width), np.array(targets))

    def _inputs(self, rows: Rows) -> Array:
        """Return the features of trials."""
        return dense([self._history.encodings[row] for row in rows], self._history.encoder.width)


def scaled_scores(history: History, objectives: Sequence[Objective]) -> tuple[Array, Array]:
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
