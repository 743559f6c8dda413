"""History: a study's trials as arrays with a row for each, in the order they were added."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.objective import Objective
from orchestrator.sampling.encoding import Encoder, SparseRow
from orchestrator.sampling.screening import DOES_NOT_BUILD
from orchestrator.trial import Trial, TrialState
from search_spaces.domains.suggester import Question
from workers.failures import FailureKind
from workers.measurement import Measurement

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

SECONDS = "seconds"
"""Name of the training time of an epoch among the costs."""
_NOT_ITS_FAULT = frozenset({FailureKind.INFRASTRUCTURE, FailureKind.NO_SPACE, FailureKind.CRASH})
"""Failures that say nothing about the candidate."""


class History:
    """Decisions, scores and costs of a study's trials."""

    def __init__(
        self, objectives: Sequence[Objective], rungs: Sequence[int], costs: Sequence[str]
    ) -> None:
        """Start without trials.

        Args:
            objectives: The study's objectives.
            rungs: Fidelities at which scores are kept.
            costs: Names of the costs that are kept.
        """
        self._objectives, self._rungs, self._costs = objectives, rungs, costs
        self._row: dict[str, int] = {}
        self.encoder = Encoder()
        """Features of the trials' decisions."""
        self.params: list[Mapping[str, Any]] = []
        """Decisions of each trial."""
        self.encodings: list[SparseRow] = []
        """Their features."""
        self._curves = np.empty((0, len(objectives), len(rungs)))
        self._finals = np.empty((0, len(objectives)))
        self._log_costs = np.empty((0, len(costs)))
        self._excess = np.empty(0)
        self._open = np.empty(0, dtype=bool)
        self._failed = np.empty(0, dtype=bool)

    def __len__(self) -> int:
        return len(self.params)

    def __contains__(self, uid: str) -> bool:
        return uid in self._row

    @property
    def curves(self) -> Array:
        """Best score up to each rung, by trial, objective and rung; NaN where there is none."""
        return self._curves[: len(self)]

    @property
    def finals(self) -> Array:
        """Score of each objective, more being better; NaN for trials that are not complete."""
        return self._finals[: len(self)]

    @property
    def excess(self) -> Array:
        """Largest violation of a constraint, at least 0; infinite for what does not build."""
        return self._excess[: len(self)]

    @property
    def open(self) -> Mask:
        """Trials that have not ended."""
        return self._open[: len(self)]

    @property
    def failed(self) -> Mask:
        """Trials that diverged, or failed for a reason of their own."""
        return self._failed[: len(self)]

    def log_costs(self, name: str) -> Array:
        """Return the logarithm of a cost of each trial; NaN where unknown."""
        return self._log_costs[: len(self), self._costs.index(name)]

    def add(self, uid: str, params: Mapping[str, Any], questions: Mapping[str, Question]) -> None:
        """Add an open trial."""
        self._row[uid] = row = len(self)
        if row == len(self._open):
            self._grow(max(64, 2 * row))
        self.params.append(dict(params))
        self.encodings.append(self.encoder.encode(params, questions))
        self._open[row], self._excess[row] = True, 0.0

    def update(self, trial: Trial) -> None:
        """Record measurements and costs of a trial, and its outcome if it has ended."""
        row, measurements = self._row[trial.uid], trial.measurements
        for index, objective in enumerate(self._objectives):
            if not objective.is_cost:
                self._curves[row, index] = rung_scores(measurements, self._rungs, objective)
            if trial.state is TrialState.COMPLETE and trial.values is not None:
                self._finals[row, index] = objective.score(trial.values[index])
        costs = {**trial.cost, SECONDS: epoch_seconds(measurements)}
        positive = (max(costs.get(name, 0.0), 0.0) for name in self._costs)
        self._log_costs[row] = [math.log(cost) if cost else math.nan for cost in positive]
        broken = DOES_NOT_BUILD in trial.violations
        self._excess[row] = math.inf if broken else max([0.0, *trial.violations.values()])
        self._open[row] = not trial.state.is_terminal
        self._failed[row] = broken or _failed(trial)

    def _grow(self, size: int) -> None:
        for name in ("_curves", "_finals", "_log_costs", "_excess", "_open", "_failed"):
            old = getattr(self, name)
            new = np.full((size, *old.shape[1:]), False if old.dtype == bool else math.nan)
            new[: len(old)] = old
            setattr(self, name, new)


def rung_scores(
    measurements: Sequence[Measurement], rungs: Sequence[int], objective: Objective
) -> list[float]:
    """Return the best score up to each rung; NaN where it is not reached or nothing is measured."""
    scores, best, left = [], math.nan, list(reversed(measurements))
    for rung in rungs:
        while left and left[-1].fidelity <= rung:
            value = left.pop().metrics.get(objective.metric)
            if value is not None and math.isfinite(value):
                best = max(objective.score(value), -math.inf if math.isnan(best) else best)
        reached = bool(measurements) and measurements[-1].fidelity >= rung
        scores.append(best if reached else math.nan)
    return scores


def epoch_seconds(measurements: Sequence[Measurement]) -> float:
    """Return the median training time of an epoch; 0 if nothing is measured.

    The clock restarts with each attempt; its first measurement counts from the attempt's start
    where that is the trial's first.
    """
    times = [(0, 0.0), *((m.fidelity, m.elapsed_s) for m in measurements)]
    epochs = [
        (after[1] - before[1]) / (after[0] - before[0])
        for before, after in pairwise(times)
        if after[0] > before[0] and after[1] > before[1]
    ]
    return median(epochs) if epochs else 0.0


def _failed(trial: Trial) -> bool:
    if trial.state is TrialState.FAIL:
        return trial.reason not in _NOT_ITS_FAULT
    return trial.reason == "diverged"
