"""Source model: predicts how an earlier study on other data would rank candidates.

Results on other data have another scale, so only their ranks are learned: a Gaussian process on
their normal scores (Salinas et al. 2020).
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from orchestrator.objective import Objective
from orchestrator.sampling.encoding import SparseRow, dense
from orchestrator.sampling.gaussian_process import GaussianProcess
from orchestrator.sampling.history import History
from orchestrator.sampling.predicted_ends import predicted_ends
from orchestrator.sampling.space_versions.distributions import to_question
from orchestrator.trial import Trial
from search_spaces.domains.suggester import is_answer
from workers.budget import Budget

Array = NDArray[np.float64]
Params = Mapping[str, Any]

MIN_SOURCE_RESULTS = 8
"""Results of an objective below which nothing is learned from a study."""
MAX_SOURCE_RESULTS = 100
"""Maximum number of results in a source model, evenly spaced by rank; it is asked about each
sample."""

_MAX_FEATURES = 2**16
"""Maximum number of cached values of decisions."""
MAX_DESIGNS = 2
"""Maximum number of a study's designs that are tried first."""
BEST_SHARE = 0.1
"""Share of its complete trials that they are chosen from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceStudy:
    """An earlier study on other data."""

    name: str
    budget: Budget
    trials: Sequence[Trial]
    """Its trained trials that had ended when this study began."""


class SourceModel:
    """Ranks candidates as an earlier study would.

    Examples:
        >>> scores = SourceModel(study, objectives).predict([trial.params])
    """

    def __init__(self, study: SourceStudy, objectives: Sequence[Objective]) -> None:
        """Fit a process to each objective's results.

        Args:
            study: The earlier study.
            objectives: Objectives of both studies.
        """
        self.name = study.name
        history = history_of(study.trials, objectives, study.budget)
        self._questions = {
            name: to_question(distribution)
            for trial in study.trials
            for name, distribution in trial.distributions.items()
        }
        self._encoder = history.encoder
        # Samples of a pool share most values; `typed`, since 1, 1.0 and True are other answers.
        self._feature = lru_cache(_MAX_FEATURES, typed=True)(self._find_feature)
        self._models = [
            None if objective.is_cost else self._fit(history, index)
            for index, objective in enumerate(objectives)
        ]
        self.designs = _best_distinct(history)
        """Decisions of its best complete trial, then of good ones that differ from it."""
        self._of_trials = np.empty((0, len(objectives)))

    def _fit(self, history: History, objective: int) -> GaussianProcess | None:
        """Return a model of an objective; None if there are too few results."""
        ends, _ = predicted_ends(history.curves[:, objective], history.finals[:, objective])
        scores = np.where(history.failed, -np.inf, ends)
        known = np.flatnonzero(~np.isnan(scores))
        if len(known) < MIN_SOURCE_RESULTS:
            return None
        by_rank = known[np.argsort(scores[known], kind="stable")]
        count = min(len(known), MAX_SOURCE_RESULTS)
        some = np.linspace(0, len(known) - 1, count).round().astype(int)
        normal_scores = ndtri((ranks(scores[by_rank]) / (len(known) + 1))[some])
        rows = [history.encodings[row] for row in by_rank[some]]
        return GaussianProcess(dense(rows, self._encoder.width), normal_scores)

    def predict(self, candidates: Sequence[Params]) -> Array:
        """Return normal scores, a row for each candidate and a column for each objective.

        Objectives without a model have 0.
        """
        points = dense([self._encode(params) for params in candidates], self._encoder.width)
        scores = np.zeros((len(candidates), len(self._models)))
        for index, model in enumerate(self._models):
            if model is not None and len(candidates):
                scores[:, index] = model.mean(points)
        return scores

    def of_trials(self, params: Sequence[Params]) -> Array:
        """Return the predictions for a history's trials, to which trials are only added."""
        new = params[len(self._of_trials) :]
        if new:
            self._of_trials = np.vstack([self._of_trials, self.predict(new)])
        return self._of_trials

    def _encode(self, params: Params) -> SparseRow:
        """Return the features of a candidate; decisions that the study did not know are absent."""
        pairs = [each for item in params.items() if (each := self._feature(*item)) is not None]
        indices, values = zip(*pairs, strict=True) if pairs else ((), ())
        return np.array(indices, dtype=np.intp), np.array(values, dtype=float)

    def _find_feature(self, name: str, value: Any) -> tuple[int, float] | None:
        """Return index and value of a decision's feature; None if the study did not know it."""
        question = self._questions.get(name)
        if question is None or not is_answer(question, value):
            return None
        indices, values = self._encoder.encode({name: value}, self._questions)
        return int(indices[0]), float(values[0])


def history_of(trials: Sequence[Trial], objectives: Sequence[Objective], budget: Budget) -> History:
    """Return the history of a study's trials, with the costs that are objectives."""
    costs = [objective.metric for objective in objectives if objective.is_cost]
    history = History(objectives, budget.possible_rungs(), costs)
    for trial in trials:
        asked = {name: to_question(d) for name, d in trial.distributions.items()}
        history.add(trial.uid, trial.params, asked)
        history.update(trial)
    return history


def _best_distinct(history: History) -> list[Params]:
    """Return decisions of the best complete trial, then of those of the best tenth farthest away.

    Several objectives count by the sum of the ranks.
    """
    finals = history.finals
    complete = np.flatnonzero(np.isfinite(finals).all(axis=1) & (history.excess == 0))
    totals = sum((ranks(finals[complete, index]) for index in range(finals.shape[1])), np.zeros(1))
    order = complete[np.argsort(-totals, kind="stable")] if len(complete) else complete
    good = order[: max(MAX_DESIGNS, math.ceil(BEST_SHARE * len(order)))]
    points = dense([history.encodings[row] for row in good], history.encoder.width)
    chosen = [0] if len(good) else []
    while chosen and len(chosen) < min(MAX_DESIGNS, len(good)):
        distances = ((points[:, None] - points[chosen]) ** 2).sum(axis=-1).min(axis=1)
        chosen.append(int(np.argmax(distances)))
    return [history.params[good[index]] for index in chosen]


def first_of_each(designs: Iterable[Sequence[Params]]) -> list[Params]:
    """Return at most `MAX_DESIGNS` designs: the first of each study, then the second, ..."""
    in_turn = (params for row in zip_longest(*designs) for params in row if params is not None)
    return list(islice(in_turn, MAX_DESIGNS))


def ranks(values: Array) -> Array:
    """Return ranks from 1; equal values share their mean rank."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    shared: Array = np.cumsum(counts) - (counts - 1) / 2
    return shared[place]
