"""Stopping: asynchronous successive halving, decided from recorded measurements alone.

At each rung a trial goes on if it is among the best 1/reduction_factor of all that were measured
there so far (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020, in
the form that never waits). A trial is judged by the best value it has shown up to the rung, not
by the last: the running maximum ranks noisy curves better. Knows no sampler and no engine.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.objective import Objective, pareto_order
from orchestrator.trial import Trial
from workers.budget import Budget
from workers.measurement import Measurement


def main_objective(objectives: Sequence[Objective]) -> Objective:
    """The objective by which people compare trials before they are complete: the first trained one.

    A study of costs alone is judged by validation accuracy, which every worker of ours measures.
    """
    fall_back = Objective(metric="val_accuracy", direction="maximize")
    return next((o for o in objectives if not o.is_cost), fall_back)


def rung_objectives(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """The objectives by which rungs compare trials: all, if one of them is trained."""
    trained = any(not objective.is_cost for objective in objectives)
    return tuple(objectives) if trained else (main_objective(objectives),)


def score_at(measurements: Sequence[Measurement], fidelity: int, judge: Objective) -> float | None:
    """The best score shown up to a fidelity, more being better; None if never measured."""
    scores = [
        judge.score(m.metrics[judge.metric])
        for m in measurements
        if m.fidelity <= fidelity and judge.metric in m.metrics
    ]
    return max(scores, default=None)


def scores_at(trial: Trial, fidelity: int, judges: Sequence[Objective]) -> tuple[float, ...] | None:
    """The best score of each judge up to a fidelity; None if one of them was never measured.

    Costs are known before training.
    """
    scores = [
        judge.score(trial.cost[judge.metric])
        if judge.metric in trial.cost
        else score_at(trial.measurements, fidelity, judge)
        for judge in judges
    ]
    return None if None in scores else tuple(score for score in scores if score is not None)


def decide(
    history: Mapping[str, float | tuple[float, ...]], trial: str, reduction_factor: int
) -> bool:
    """Whether a trial goes on beyond a rung.

    Args:
        history: Score, or key of `pareto_order`, by trial of all that were measured at the rung,
            this one included.
        trial: Whose turn it is.
        reduction_factor: One in this many goes on.

    Returns:
        True for one among the best `len(history) // reduction_factor`, for one that equals the
        last of these, and while fewer than `reduction_factor` were measured.
    """
    places = len(history) // reduction_factor
    if places == 0 or trial not in history:
        return True
    own: Any = history[trial]
    better: int = sum(score > own for score in history.values())
    return better < places


def expected_complete(trials: int, budget: Budget) -> int:
    """Return how many trials complete on average, if their scores come in random order.

    In closed form, with n mod factor replaced by its mean and the sum of 1/n by a logarithm.
    Rounded up: trials that reach a rung late have passed against more, so more of them pass again.
    """
    factor, left = budget.reduction_factor, float(trials)
    for _ in budget.rungs()[:-1]:
        free = factor - 1  # they pass; of the others the n-th by a chance of (n // factor) / n
        if left > free:
            left = free + (left - free) / factor - free / (2 * factor) * math.log(left / free)
    return math.ceil(left)


class Halving:
    """The rungs of one study and who was seen there."""

    def __init__(self, budget: Budget, judges: Sequence[Objective]) -> None:
        self._rungs = budget.rungs()[:-1]
        self._reduction_factor = budget.reduction_factor
        self._judges = tuple(judges)
        self._history: dict[int, dict[str, tuple[float, ...]]] = {rung: {} for rung in self._rungs}

    def observe(self, trial: Trial) -> None:
        """Enters a trial at every rung that it has reached; again is the same as once."""
        reached = trial.reached
        for rung in self._rungs:
            if rung > reached or trial.uid in self._history[rung]:
                continue
            scores = scores_at(trial, rung, self._judges)
            if scores is not None:
                self._history[rung][trial.uid] = scores

    def goes_on(self, trial: Trial, fidelity: int) -> bool:
        """Whether the trial is trained beyond this fidelity; always so between rungs.

        Trial 0, the reference recipe, is never stopped: a study whose reference did not reach the
        full budget could not say what its search has gained. It counts in the history like any
        other. Trials that are not part of the search (confirmations, replays) run through too.
        """
        if trial.number == 0 or trial.kind != "search":
            return True
        seen = self._history.get(fidelity, {})
        keys = dict(zip(seen, pareto_order(list(seen.values())), strict=True))
        return decide(keys, trial.uid, self._reduction_factor)
