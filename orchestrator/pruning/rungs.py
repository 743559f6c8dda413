"""First rung of successive halving, chosen from the curves of a study.

A rung costs time at low fidelities and good trials at fidelities that do not rank. `budget.minimum:
auto` starts at the earliest epoch between 1/9 and 1/3 of the budget (for a reduction factor of 3)
at which the reference trial has left its warm-up and made half of its gain; while it trains, the
earliest past its warm-up that it has reached. Once enough trials were trained to the end whatever
their rank, their rank correlation decides.
"""

from collections.abc import Iterable, Sequence

from orchestrator.objective import Objective
from orchestrator.pruning.rank_correlation import rank_correlation
from orchestrator.pruning.scores import final_score, score_at
from orchestrator.trial import Trial
from workers.budget import Budget

MIN_GAIN = 0.5
"""Share of its gain that the reference has made at the first rung; below, ranks are near random."""
MIN_CORRELATION = 0.6
"""Rank correlation with the end that the first rung needs."""
MIN_TRIALS = 8
"""Complete trials that no rung selected, from which the rank correlation is estimated."""

_WARMUP = "recipe.warmup"
"""Parameter with the warm-up's share of the budget, in the catalog's spaces."""


def first_rung(
    budget: Budget,
    objective: Objective,
    reference: Trial | None,
    unselected: Iterable[Trial] = (),
) -> int:
    """Return the fidelity of the first rung.

    Args:
        budget: The study's budget.
        objective: Objective that trials are compared by.
        reference: Trial 0; None before it is known. While it trains, its gain is not known, and the
            first rung is the earliest that it has reached.
        unselected: Complete trials that were trained to the end whatever their rank.
    """
    if budget.minimum != "auto":
        return budget.minimum
    latest = budget.latest_first_rung
    if reference is None:
        return latest
    complete = list(unselected)
    for fidelity in range(budget.earliest_first_rung, min(latest, reference.reached + 1)):
        if _past_warmup(reference, fidelity, budget) and (
            _ranks(complete, fidelity, objective)
            if len(complete) >= MIN_TRIALS
            else reference.reached < budget.maximum or _gained(reference, fidelity, objective)
        ):
            return fidelity
    return latest


def _past_warmup(reference: Trial, fidelity: int, budget: Budget) -> bool:
    return fidelity >= float(reference.params.get(_WARMUP, 0.0)) * budget.maximum


def _gained(reference: Trial, fidelity: int, objective: Objective) -> bool:
    """Return whether the reference has made half of its gain over its worst epoch.

    The worst epoch is taken as chance, so a first epoch that is the worst never qualifies.
    """
    scores = _scores(reference, objective)
    reached = score_at(reference.measurements, fidelity, objective)
    if not scores or reached is None:
        return False
    worst, best = min(scores), max(scores)
    return reached - worst >= MIN_GAIN * (best - worst) > 0


def _scores(trial: Trial, objective: Objective) -> list[float]:
    return [
        objective.score(seen.metrics[objective.metric])
        for seen in trial.measurements
        if objective.metric in seen.metrics
    ]


def _ranks(complete: Sequence[Trial], fidelity: int, objective: Objective) -> bool:
    """Return whether the scores at a fidelity rank trials as the end does."""
    pairs = [
        (early, late)
        for trial in complete
        if (early := score_at(trial.measurements, fidelity, objective)) is not None
        and (late := final_score(trial, objective)) is not None
    ]
    correlation = rank_correlation([early for early, _ in pairs], [late for _, late in pairs])
    return correlation is not None and correlation >= MIN_CORRELATION
