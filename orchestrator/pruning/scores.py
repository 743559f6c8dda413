"""Scores of trials at a fidelity, more being better: the running maximum of each objective."""

from collections.abc import Sequence

from orchestrator.objective import Objective
from orchestrator.trial import Trial
from workers.measurement import Measurement


def score_at(
    measurements: Sequence[Measurement], fidelity: int, objective: Objective
) -> float | None:
    """Return the best score up to a fidelity; None if the metric was never measured."""
    scores = [
        objective.score(m.metrics[objective.metric])
        for m in measurements
        if m.fidelity <= fidelity and objective.metric in m.metrics
    ]
    return max(scores, default=None)


def final_score(trial: Trial, objective: Objective) -> float | None:
    """Return the score of a trial's last measurement; None if it lacks the metric."""
    return score_at(trial.measurements[-1:], trial.reached, objective)


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
