"""Asynchronous successive halving, decided from recorded measurements alone.

A rung promotes a trial that is among the best 1/reduction_factor of all trials measured there so
far (ASHA; Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020). Trials
are compared by their best value up to the rung, not by the last: the running maximum ranks noisy
curves better.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.objective import Objective, pareto_order
from orchestrator.trial import Trial
from workers.budget import Budget
from workers.measurement import Measurement


def main_objective(objectives: Sequence[Objective]) -> Objective:
    """Return the first trained objective, by which incomplete trials are compared.

    Studies of costs alone use validation accuracy, which built-in training always measures.
    """
    default = Objective(metric="val_accuracy", direction="maximize")
    return next((o for o in objectives if not o.is_cost), default)


def rung_objectives(objectives: Sequence[Objective]) -> tuple[Objective, ...]:
    """Return the objectives by which rungs compare trials: all, if one of them is trained."""
    trained = any(not objective.is_cost for objective in objectives)
    return tuple(objectives) if trained else (main_objective(objectives),)


def score_at(
    measurements: Sequence[Measurement], fidelity: int, objective: Objective
) -> float | None:
    """Return the best score up to a fidelity, more being better; None if never measured."""
    scores = [
        objective.score(m.metrics[objective.metric])
        for m in measurements
        if m.fidelity <= fidelity and objective.metric in m.metrics
    ]
    return max(scores, default=None)


def scores_at(
    trial: Trial, fidelity: int, objectives: Sequence[Objective]
) -> tuple[float, ...] | None:
    """Return the best score of each objective up to a fidelity; None if one was never measured.

    Costs are known before training.
    """
    scores = [
        objective.score(trial.cost[objective.metric])
        if objective.metric in trial.cost
        else score_at(trial.measurements, fidelity, objective)
        for objective in objectives
    ]
    return None if None in scores else tuple(score for score in scores if score is not None)


def is_promoted(
    scores: Mapping[str, float | tuple[float, ...]], trial: str, reduction_factor: int
) -> bool:
    """Return whether a rung promotes a trial.

    Args:
        scores: Score, or key of `pareto_order`, by trial, of all trials measured at the rung,
            including this one.
        trial: The trial.
        reduction_factor: One in this many is promoted.

    Returns:
        True for the best `len(scores) // reduction_factor` trials, for one that equals the last of
        these, and while fewer than `reduction_factor` were measured.
    """
    num_promoted = len(scores) // reduction_factor
    if num_promoted == 0 or trial not in scores:
        return True
    own: Any = scores[trial]
    better: int = sum(score > own for score in scores.values())
    return better < num_promoted


def expected_complete(trials: int, budget: Budget) -> int:
    """Return the expected number of complete trials, for scores in random order.

    A closed form, with n mod factor replaced by its mean and the sum of 1/n by a logarithm. Rounded
    up: trials that reach a rung late competed with more trials, so more of them are promoted again.
    """
    factor, left = budget.reduction_factor, float(trials)
    for _ in budget.rungs()[:-1]:
        free = (
            factor - 1
        )  # always promoted; the n-th of the others with probability (n // factor) / n
        if left > free:
            left = free + (left - free) / factor - free / (2 * factor) * math.log(left / free)
    return math.ceil(left)


class Halving:
    """Rungs of one study and the trials that reached them.

    Examples:
        >>> halving = Halving(config.budget, rung_objectives(config.objectives))
        >>> halving.observe(trial)
        >>> halving.promotes(trial, fidelity=1)
        True
    """

    def __init__(self, budget: Budget, objectives: Sequence[Objective]) -> None:
        self._rungs = budget.rungs()[:-1]
        self._reduction_factor = budget.reduction_factor
        self._objectives = tuple(objectives)
        self._scores: dict[int, dict[str, tuple[float, ...]]] = {rung: {} for rung in self._rungs}

    def observe(self, trial: Trial) -> None:
        """Record a trial at every rung that it has reached; repeating it changes nothing."""
        reached = trial.reached
        for rung in self._rungs:
            if rung > reached or trial.uid in self._scores[rung]:
                continue
            scores = scores_at(trial, rung, self._objectives)
            if scores is not None:
                self._scores[rung][trial.uid] = scores

    def promotes(self, trial: Trial, fidelity: int) -> bool:
        """Return whether a trial trains beyond a fidelity; always true between rungs.

        Trial 0, the default candidate, is never pruned: without its full result a study could not
        report the gain of its search. Trials of other kinds (confirmations, replays) are not pruned
        either.
        """
        if trial.number == 0 or trial.kind != "search":
            return True
        scores = self._scores.get(fidelity, {})
        keys = dict(zip(scores, pareto_order(list(scores.values())), strict=True))
        return is_promoted(keys, trial.uid, self._reduction_factor)
