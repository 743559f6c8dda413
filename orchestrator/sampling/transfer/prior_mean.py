"""Prior mean: what earlier studies on other data say about an objective, as far as they agree.

A Gaussian process then models only what the results differ from it, as in co-kriging (Kennedy and
O'Hagan 2000), so an earlier study counts for less wherever this study has results of its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.sampling.transfer.source_model import Params, SourceModel, ranks

Array = NDArray[np.float64]

MIN_PAIRS = 4
"""Results below which no agreement is measured."""
FULL_PAIRS = 20
"""Results from which the weight of an earlier study falls in proportion to their number."""
_QUANTILE = 1.645
"""Standard errors, of unrelated rankings, from a correlation to its one-sided bound of 95 %."""
_EPSILON = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How well an earlier study ranks this study's trials."""

    study: str
    correlation: float
    """Spearman's rank correlation; 0 while too few results are known."""
    count: int
    """Number of results it was measured on."""

    @property
    def weight(self) -> float:
        """Share of the earlier study's prediction that is used, from 0 to 1.

        The lower bound of the correlation, so that agreement by chance has no weight.
        """
        if self.count < MIN_PAIRS:
            return 0.0
        lower_bound = self.correlation - _QUANTILE / math.sqrt(self.count - 1)
        return max(0.0, lower_bound) * min(1.0, FULL_PAIRS / self.count)

    def describe(self) -> str:
        """Return the agreement in words."""
        if self.count < MIN_PAIRS:
            return f"{self.study}: rank agreement is measured from {MIN_PAIRS} trials on"
        used = f"weight {self.weight:.2f}" if self.weight else "not better than chance, not used"
        return (
            f"{self.study}: rank agreement {self.correlation:.2f} over {self.count} trials, {used}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the agreement as plain data."""
        return {
            "study": self.study,
            "rank_agreement": round(self.correlation, 4),
            "trials": self.count,
            "weight": round(self.weight, 4),
        }


def measure_agreement(
    sources: Sequence[SourceModel], predictions: Array, scores: Array
) -> list[Agreement]:
    """Return how well earlier studies rank the scores of this one.

    Args:
        sources: Models of the earlier studies.
        predictions: Their predictions for the trials with a score, a column for each study.
        scores: The scores.
    """
    return [
        Agreement(study=source.name, correlation=_correlation(own, scores), count=len(scores))
        for source, own in zip(sources, predictions.T, strict=True)
    ]


def _correlation(predictions: Array, scores: Array) -> float:
    if len(scores) < MIN_PAIRS or not np.ptp(predictions) or not np.ptp(scores):
        return 0.0
    return float(np.corrcoef(ranks(predictions), ranks(scores))[0, 1])


class PriorMean:
    """Mean function of one objective: the weighted mean of the earlier studies' predictions.

    Examples:
        >>> prior = PriorMean(agreements, predictions, scores)
        >>> residuals = scores - prior(predictions)
    """

    def __init__(self, agreements: Sequence[Agreement], predictions: Array, scores: Array) -> None:
        """Scale the predictions to the scores.

        Args:
            agreements: Of each earlier study.
            predictions: For the trials with a score, a column for each earlier study.
            scores: The scores.
        """
        weights = np.array([each.weight for each in agreements])
        self.weight = float(weights.max(initial=0.0))
        """Largest weight of an earlier study; 0 if none is used."""
        self._shares = weights / max(float(weights.sum()), _EPSILON)
        self._slope = 0.0
        if self.weight:
            x = predictions @ self._shares
            x, y = x - x.mean(), scores - scores.mean()
            self._slope = self.weight * max(0.0, float(x @ y / (x @ x + _EPSILON)))

    def __call__(self, predictions: Array) -> Array:
        """Return the mean for predictions with a column for each earlier study."""
        mean: Array = self._slope * (predictions @ self._shares)
        return mean


class TransferPrior:
    """Prior means of all objectives, for the trials of a study and for new candidates.

    Examples:
        >>> prior = TransferPrior(sources, history.params, scores)
        >>> residuals = scores - prior.of_trials
    """

    def __init__(
        self, sources: Sequence[SourceModel], trials: Sequence[Params], scores: Array
    ) -> None:
        """Measure how well each earlier study ranks the trials.

        Args:
            sources: Models of the earlier studies.
            trials: Decisions of the study's trials.
            scores: Their scores, a column for each objective; NaN where unknown.
        """
        self._sources = sources
        self.of_trials = np.zeros_like(scores)
        """Prior mean of each trial, by objective."""
        self._means: list[PriorMean] = []
        if not sources:
            return
        predictions = np.stack([source.of_trials(trials) for source in sources], axis=-1)
        known = np.isfinite(scores).all(axis=1)
        for index, own in enumerate(scores[known].T):
            seen = predictions[known, index]
            mean = PriorMean(measure_agreement(sources, seen, own), seen, own)
            self.of_trials[:, index] = mean(predictions[:, index])
            self._means.append(mean)

    @property
    def informs(self) -> bool:
        """True if an earlier study has any weight."""
        return any(mean.weight for mean in self._means)

    def predict(self, candidates: Sequence[Params]) -> Array:
        """Return the prior mean of candidates, a row for each and a column for each objective."""
        if not self.informs:
            return np.zeros((len(candidates), self.of_trials.shape[1]))
        predictions = np.stack([source.predict(candidates) for source in self._sources], axis=-1)
        columns = [mean(predictions[:, index]) for index, mean in enumerate(self._means)]
        return np.stack(columns, axis=1)
