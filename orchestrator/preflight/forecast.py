"""When a study ends: many simulated ones, with trials of drawn lengths and luck at every rung.

Each trial takes the time of a candidate that chance drew; who goes on at a rung is decided as the
study does, on scores that are pure luck. Knows numbers only, and no candidate.
"""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.sampling.halving import decide
from workers.budget import Budget

SIMULATED = 100
"""Studies that are simulated."""
MAX_TRIALS = 200
"""Trials that are simulated of each; a longer study goes on as it went."""
LOW, HIGH = 0.1, 0.9
"""Of ten simulated studies eight lie between these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A study, as far as its length goes."""

    epochs_s: tuple[float, ...]
    """Predicted time of one epoch of candidates that chance drew, at least one."""
    first_s: float
    """The same of trial 0, which is never stopped."""
    budget: Budget
    halving: bool
    """Whether trials are stopped at rungs."""
    slots: int
    """Trials at a time."""
    trials: int | None
    """After how many the study ends."""
    hours: float | None
    """After how many it ends, whatever it has."""
    error: float
    """Typical relative error of the predicted times."""
    timed: int
    """Networks that the prediction was learnt from."""
    start_s: float = 0.0
    """What starting and ending the engine takes."""
    trial_s: float = 0.0
    """What starting and ending a trial takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A number that is not known exactly."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyForecast:
    """What is to be expected."""

    seconds: Span
    """Until the study ends."""
    trials: Span
    """Trials that it then has."""
    hours_decide: bool
    """Whether its hours are used up first, more often than not."""


def forecast(plan: Plan, seed: int) -> StudyForecast:
    """Simulates the study; equal seeds give equal forecasts."""
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
    """Trials and seconds of one simulated study."""
    # Few timed networks may all have been timed too fast, or too slow; single ones err alone.
    shared = _factor(chance, plan.error / plan.timed**0.5)
    free = [0.0] * plan.slots
    seen: dict[int, dict[str, float]] = {rung: {} for rung in plan.budget.rungs()[:-1]}
    wanted = plan.trials or MAX_TRIALS
    asked, ended = 0, 0.0
    while asked < min(wanted, MAX_TRIALS) and plan.start_s + free[0] < limit_s:
        drawn = plan.first_s if asked == 0 else chance.choice(plan.epochs_s)
        epoch_s = drawn * shared * _factor(chance, plan.error)
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
    """How far a trial is trained."""
    if plan.halving:
        for rung, scores in seen.items():
            scores[str(number)] = score
            if number and not decide(scores, str(number), plan.budget.reduction_factor):
                return rung
    return plan.budget.maximum


def _factor(chance: random.Random, error: float) -> float:
    """A factor around 1 whose median error is the given one."""
    return math.exp(math.log1p(error) * chance.gauss(0, 1) / 0.6745)


def _span(values: Sequence[float]) -> Span:
    ranked = sorted(values)
    last = len(ranked) - 1
    low, median, high = (ranked[round(share * last)] for share in (LOW, 0.5, HIGH))
    return Span(low=low, median=median, high=high)
