"""Forecast of a study's duration by simulation, with random trial times and scores.

Each simulated trial takes the time of a random candidate; promotion at a rung is decided as in the
study, on random scores. Uses numbers only, no candidates.
"""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.sampling.halving import decide
from workers.budget import Budget

SIMULATED = 100
"""Simulated studies."""
MAX_TRIALS = 200
"""Simulated trials of each; a longer study is extrapolated."""
LOW, HIGH = 0.1, 0.9
"""Quantiles of the simulated studies that a span reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Parameters of a study that determine its duration."""

    epochs_s: tuple[float, ...]
    """Predicted time of one epoch of random candidates, at least one."""
    first_s: float
    """Predicted time of one epoch of trial 0, which is never stopped."""
    budget: Budget
    halving: bool
    """Stop trials at rungs."""
    slots: int
    """Trials at a time."""
    trials: int | None
    """Limit of trials."""
    hours: float | None
    """Time limit."""
    error: float
    """Typical relative error of the predicted times."""
    timed: int
    """Timed networks that the prediction was fitted to."""
    start_s: float = 0.0
    """Time to start and stop the engine."""
    trial_s: float = 0.0
    """Time to start and end a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Range of an uncertain number."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyForecast:
    """Expected duration and trials of a study."""

    seconds: Span
    """Time until the study ends."""
    trials: Span
    """Trials at its end."""
    hours_decide: bool
    """More often than not, the time limit is reached first."""


def forecast(plan: Plan, seed: int) -> StudyForecast:
    """Simulate the study; equal seeds give equal forecasts."""
    chance = random.Random(seed)  # noqa: S311 - a simulation, no secret
    limit_s = float("inf") if plan.hours is None else plan.hours * 3600
    seconds, trials = [], []
    for _ in range(SIMULATED):
        asked, took = _one(plan, chance, limit_s)
        seconds.append(min(took, limit_s))
        trials.append(asked)
    late = sum(took >= limit_s for took in seconds)
    return StudyForecast(
        seconds=_span(seconds), trials=_span(trials), hours_decide=late > SIMULATED / 2
    )


def _one(plan: Plan, chance: random.Random, limit_s: float) -> tuple[float, float]:
    """Return trials and seconds of one simulated study."""
    # Few timed networks may all have been timed too fast, or too slow; single ones err alone.
    shared = _factor(chance, plan.error / plan.timed**0.5)
    free = [0.0] * plan.slots
    seen: dict[int, dict[str, float]] = {rung: {} for rung in plan.budget.rungs()[:-1]}
    wanted = plan.trials or MAX_TRIALS
    asked, ended = 0, 0.0
    while asked < min(wanted, MAX_TRIALS) and plan.start_s + free[0] < limit_s:
        usual_s = plan.first_s if asked == 0 else chance.choice(plan.epochs_s)
        epoch_s = usual_s * shared * _factor(chance, plan.error)
        took = plan.trial_s + epoch_s * _epochs(plan, seen, asked, chance.random())
        ended = max(ended, free[0] + took)
        heapq.heapreplace(free, free[0] + took)
        asked += 1
    if asked == MAX_TRIALS:
        each_s = ended / asked
        more = wanted if plan.trials else limit_s / each_s
        return min(more, limit_s / each_s), plan.start_s + each_s * more
    return asked, plan.start_s + ended


def _epochs(plan: Plan, seen: dict[int, dict[str, float]], number: int, score: float) -> int:
    """Return the epochs after which a trial ends."""
    if plan.halving:
        for rung, scores in seen.items():
            scores[str(number)] = score
            if number and not decide(scores, str(number), plan.budget.reduction_factor):
                return rung
    return plan.budget.maximum


def _factor(chance: random.Random, error: float) -> float:
    """Return a random factor around 1 with the given median error."""
    return math.exp(math.log1p(error) * chance.gauss(0, 1) / 0.6745)


def _span(values: Sequence[float]) -> Span:
    ranked = sorted(values)
    last = len(ranked) - 1
    low, median, high = (ranked[round(share * last)] for share in (LOW, 0.5, HIGH))
    return Span(low=low, median=median, high=high)
