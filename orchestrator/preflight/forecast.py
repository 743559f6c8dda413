"""Forecast of a study's duration, by simulating it many times.

Each simulated trial takes the time of a candidate that the sampler may propose. Rungs promote as in
the study, on random scores. The confirmation has no more candidates than trials complete, and its
race ends after any number of seeds.
"""

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.confirmation.plan import MIN_SEEDS, ConfirmationPlan
from orchestrator.pruning.promotions import is_promoted
from workers.budget import Budget

SIMULATED = 100
"""Number of simulated studies."""
MAX_TRIALS = 200
"""Trials simulated of each; longer studies are extrapolated."""
_EPSILON = 1e-9
LOW, HIGH = 0.1, 0.9
"""Quantiles that enclose 80 % of the simulated studies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Properties of a study that decide its duration."""

    epochs_s: tuple[float, ...]
    """Predicted seconds of an epoch, for at least one candidate as the sampler proposes them."""
    first_s: float
    """The same for trial 0, which is never pruned."""
    budget: Budget
    per_cost: bool
    """True if the sampler prefers cheap candidates, by expected improvement per cost."""
    halving: bool
    """True if trials are pruned at rungs."""
    slots: int
    """Parallel trials."""
    trials: int | None
    """Limit of trials; None without one."""
    hours: float | None
    """Limit of hours; None without one."""
    error: float
    """Typical relative error of the predicted times."""
    timed: int
    """Networks that the prediction was fitted to."""
    start_s: float = 0.0
    """Seconds to start and end the engine."""
    trial_s: float = 0.0
    """Seconds to start and end a trial."""
    confirmation: ConfirmationPlan | None = None
    """Size of the confirmation, for which up to a third of the hours is kept; None without one."""

    @property
    def search_limit_s(self) -> float:
        """Seconds that the search may take; infinite without a limit of hours."""
        if self.hours is None:
            return math.inf
        limit_s = self.hours * 3600
        if self.confirmation is None:
            return limit_s
        weights = self.weights
        mean_s = sum(w * t for w, t in zip(weights, self.epochs_s, strict=True)) / sum(weights)
        full_s = self.full_s(mean_s)
        return limit_s - min(limit_s / 3, self.confirmation.max_trainings * full_s / self.slots)

    @property
    def weights(self) -> tuple[float, ...]:
        """Relative probability of each of `epochs_s`: that of equal merits but for the cost."""
        return tuple(1 / max(time, _EPSILON) if self.per_cost else 1.0 for time in self.epochs_s)

    def full_s(self, epoch_s: float) -> float:
        """Return the seconds of a training to the end."""
        return self.trial_s + self.budget.maximum * epoch_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """An estimate with its 80 % interval."""

    low: float
    median: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyForecast:
    """Expected duration and trials of a study."""

    seconds: Span
    """Seconds until the study ends."""
    trials: Span
    """Trials of the study at its end."""
    hours_decide: bool
    """True if the limit of hours ends it in most simulations."""


def forecast(plan: Plan, seed: int) -> StudyForecast:
    """Simulate a study and return its forecast; equal seeds give equal forecasts."""
    rng = random.Random(seed)  # noqa: S311 - not for cryptography
    limit_s = math.inf if plan.hours is None else plan.hours * 3600
    seconds, trials, late = [], [], 0
    for _ in range(SIMULATED):
        num_trials, complete, took = _simulate(plan, rng, plan.search_limit_s)
        late += took >= plan.search_limit_s
        search_s = min(took, plan.search_limit_s)
        seconds.append(min(search_s + _confirmation_s(plan, rng, complete), limit_s))
        trials.append(num_trials)
    return StudyForecast(
        seconds=_span(seconds), trials=_span(trials), hours_decide=late > SIMULATED / 2
    )


def _simulate(plan: Plan, rng: random.Random, limit_s: float) -> tuple[float, int, float]:
    """Return trials, complete trials and seconds of one simulated study."""
    # Few timed networks share an error, and each single one has an error of its own.
    shared = _factor(rng, plan.error / plan.timed**0.5)
    free = [0.0] * plan.slots
    seen: dict[int, dict[str, float]] = {rung: {} for rung in plan.budget.rungs()[:-1]}
    wanted = plan.trials or MAX_TRIALS
    num_trials, complete, ended = 0, 0, 0.0
    while num_trials < min(wanted, MAX_TRIALS) and plan.start_s + free[0] < limit_s:
        mean_s = plan.first_s if num_trials == 0 else _epoch_s(plan, rng)
        epoch_s = mean_s * shared * _factor(rng, plan.error)
        epochs = _epochs(plan, seen, num_trials, rng.random())
        complete += epochs == plan.budget.maximum
        took = plan.trial_s + epoch_s * epochs
        ended = max(ended, free[0] + took)
        heapq.heapreplace(free, free[0] + took)
        num_trials += 1
    if num_trials == MAX_TRIALS:
        each_s = ended / num_trials
        more = wanted if plan.trials else limit_s / each_s
        return min(more, limit_s / each_s), complete, plan.start_s + each_s * more
    return num_trials, complete, plan.start_s + ended


def _confirmation_s(plan: Plan, rng: random.Random, complete: int) -> float:
    """Return the seconds of the confirmation of a search with so many complete trials."""
    if plan.confirmation is None or complete < 2:  # the default alone is compared with nothing
        return 0.0
    candidates = min(plan.confirmation.top, complete - 1)
    contestants = [plan.first_s, *(_epoch_s(plan, rng) for _ in range(candidates))]
    seeds = rng.randint(MIN_SEEDS, plan.confirmation.seeds)
    rounds = math.ceil(seeds * len(contestants) / plan.slots)
    return rounds * plan.full_s(math.fsum(contestants) / len(contestants))


def _epoch_s(plan: Plan, rng: random.Random) -> float:
    """Return the seconds of an epoch of one proposal."""
    return rng.choices(plan.epochs_s, plan.weights)[0]


def _epochs(plan: Plan, seen: dict[int, dict[str, float]], number: int, score: float) -> int:
    """Return the epochs that a trial trains."""
    if plan.halving:
        for rung, scores in seen.items():
            scores[str(number)] = score
            if number and not is_promoted(scores, str(number), plan.budget.reduction_factor):
                return rung
    return plan.budget.maximum


def _factor(rng: random.Random, error: float) -> float:
    """Return a log-normal factor around 1 whose median error is the given one."""
    return math.exp(math.log1p(error) * rng.gauss(0, 1) / 0.6745)


def _span(values: Sequence[float]) -> Span:
    ranked = sorted(values)
    last = len(ranked) - 1
    low, median, high = (ranked[round(share * last)] for share in (LOW, 0.5, HIGH))
    return Span(low=low, median=median, high=high)
