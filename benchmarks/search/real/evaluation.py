"""Confirmation of searches over other seeds, and scores of the winners on the held-out test set.

All methods share one protocol: the best three and the default race on validation over the same
fresh seeds, then the winner is trained with five further seeds and compared with the default on
the test set. The candidate that raced best is compared as well, also where it did not win.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from benchmarks.search.real.requests import JsonLines
from orchestrator.confirmation.racing import Race, race
from orchestrator.objective import Objective

TOP = 3
MAX_SEEDS = 10
"""Greatest number of seeds of a race, as in the product."""
RACE_SEED, TEST_SEED = 1_000, 2_000
"""First seeds of both series, which no trial of a search has."""
TEST_SEEDS = range(TEST_SEED, TEST_SEED + 5)
SANE = 0.05
"""Greatest distance of a sane proposal from the default's score at the same epoch."""

Row = Mapping[str, Any]
Train = Callable[[str, Sequence[tuple[Row, int]]], None]
"""Trains trials with seeds on a data set, and keeps the results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One search after its confirmation."""

    search: Row
    race: Race
    winner: Row
    """The trial that won the race; the default if none did."""
    alternative: Row
    """The searched trial that raced best, the winner if there is one; the default if no other trial
    is complete."""


class Evaluation:
    """Confirmed results of searches, from trainings that are kept."""

    def __init__(
        self,
        kept: JsonLines,
        objective: Objective,
        train: Train | None = None,
        *,
        diverged: float = 0.0,
    ) -> None:
        """Evaluate from kept trainings.

        Args:
            kept: Trainings by data set, digest and seed.
            objective: Metric without its split, such as `accuracy`, and its direction.
            train: Trains what is missing; None evaluates nothing new.
            diverged: Value of a training that diverged: that of a constant prediction.
        """
        self._kept = kept
        self._metric, self._score = objective.metric, objective.score
        self._maximized = objective.direction == "maximize"
        self._train = train
        self._diverged = diverged

    def result(self, search: Row) -> Result | None:
        """Return the confirmed result of a search; None if a training is missing."""
        default, *others = self.best(search)
        by_name = {str(trial["number"]): trial for trial in others}
        while True:
            outcome = self._race(search["dataset"], default, by_name)
            if outcome.decided:
                break
            names = [default, *(by_name[name] for name in outcome.racing)]
            seeds = range(RACE_SEED, RACE_SEED + outcome.next_look)
            if not self._have(search["dataset"], names, seeds):
                return None
        means = {name: estimate.mean for name, estimate in outcome.estimates.items()}
        best = outcome.winner or max(means, key=means.__getitem__, default=None)
        result = Result(
            search=search,
            race=outcome,
            winner=by_name[outcome.winner] if outcome.winner else default,
            alternative=by_name[best] if best else default,
        )
        tested = [default, result.winner, result.alternative]
        return result if self._have(search["dataset"], tested, TEST_SEEDS) else None

    def best(self, search: Row) -> list[Row]:
        """Return the default, and the best complete trials that differ from it."""
        default = search["trials"][0]
        complete = {
            trial["digest"]: trial
            for trial in reversed(search["trials"])
            if trial["state"] == "COMPLETE" and trial["digest"] != default["digest"]
        }
        last = {d: trial["curves"][f"val_{self._metric}"][-1] for d, trial in complete.items()}
        ranked = sorted(complete, key=lambda digest: -self._score(last[digest]))
        return [default, *(complete[digest] for digest in ranked[:TOP])]

    def gain(self, dataset: str, trial: Row, other: Row) -> list[float]:
        """Return by seed how much better one trial's test score is than another's.

        Shares are compared in points, errors in percent of the other trial's mean error.
        """
        pairs = [
            (self._test(dataset, trial, seed), self._test(dataset, other, seed))
            for seed in TEST_SEEDS
        ]
        unit = 1.0 if self._maximized else statistics.mean(error for _, error in pairs)
        return [100 * (self._score(one) - self._score(two)) / unit for one, two in pairs]

    def sane(self, search: Row) -> tuple[int, int]:
        """Return how many proposals are close to the default, and the number of proposals.

        Proposals are all trained trials but the default. Each is compared at its last epoch; none
        can be where the default diverged.
        """
        default, *curves = [t["curves"].get(f"val_{self._metric}") for t in search["trials"]]
        last = [(curve[-1], default[len(curve) - 1]) for curve in curves if curve and default]
        return sum(score >= reference - SANE for score, reference in last), len(last)

    def _race(self, dataset: str, default: Row, others: Mapping[str, Row]) -> Race:
        scores = {name: self._scores(dataset, trial) for name, trial in others.items()}
        return race(self._scores(dataset, default), scores, max_seeds=MAX_SEEDS)

    def _scores(self, dataset: str, trial: Row) -> dict[int, float]:
        """Return validation scores by index of the seed."""
        rows = {
            index: self._kept.rows.get((dataset, trial["digest"], RACE_SEED + index))
            for index in range(MAX_SEEDS)
        }
        name = f"val_{self._metric}"
        return {
            index: self._score(row["curves"].get(name, [self._diverged])[-1])
            for index, row in rows.items()
            if row
        }

    def _test(self, dataset: str, trial: Row, seed: int) -> float:
        row = self._kept.rows[dataset, trial["digest"], seed]
        return float(row["test"].get(f"test_{self._metric}", self._diverged))

    def _have(self, dataset: str, trials: Iterable[Row], seeds: Iterable[int]) -> bool:
        """Return whether all trainings are kept, after training what is missing."""
        by_digest = {trial["digest"]: trial for trial in trials}
        missing = [
            (trial, seed)
            for seed in seeds
            for digest, trial in by_digest.items()
            if (dataset, digest, seed) not in self._kept.rows
        ]
        if missing and self._train is not None:
            self._train(dataset, missing)
        return not missing or self._train is not None


def bounds(values: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of a mean, by Student's t."""
    mean, error = statistics.mean(values), statistics.stdev(values) / math.sqrt(len(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return mean - half, mean + half


def interval(values: Sequence[float]) -> str:
    """Return a mean with its 95 % interval as text."""
    if len(values) < 2:
        return "-"
    low, high = bounds(values)
    return f"{statistics.mean(values):+.2f} ({low:+.2f} to {high:+.2f})"


def mean_by_seed(gains: Sequence[Sequence[float]]) -> list[float]:
    """Return the mean over searches by test seed, because searches share the default's seeds."""
    return [statistics.mean(each) for each in zip(*gains, strict=True)]


def sentence(evaluation: Evaluation, result: Result) -> str:
    """Return what confirmation and test set say of one search."""
    dataset, default = result.search["dataset"], result.search["trials"][0]
    other = result.alternative
    share = other["parameters"] / default["parameters"]
    test = interval(evaluation.gain(dataset, other, default))
    if result.race.winner is None:
        if other is default:
            return "no other candidate is complete"
        return (
            f"no candidate is better than the default beyond noise; trial {other['number']} has "
            f"{share:.2f} of its parameters and {test} points on the test set"
        )
    found = result.race.estimates[result.race.winner]
    return (
        f"trial {other['number']} beats the default by {100 * found.mean:.1f} points (95 % "
        f"interval {100 * found.low:.1f} to {100 * found.high:.1f}, {found.seeds} seeds); "
        f"{test} on the test set, {share:.2f} of the parameters"
    )
