"""Measures of runs, and paired comparisons with bootstrap intervals."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from benchmarks.search.runs import Run

LEAST_REGRET = 0.001
RESAMPLES = 2000
Key = tuple[str, int]
"""Table and seed of a run."""


def value_at(run: Run, units: float) -> float:
    """Return the incumbent's true value after so much compute; the default's before any result."""
    reached = [truth for at, _, _, truth in run.path if at <= units]
    return reached[-1] if reached else run.default


def log_regret(run: Run, units: float) -> float:
    """Return ln of the regret, as a share of what the median uniform sample lacks to the best."""
    span = max(run.best - run.median, 1e-9)
    return math.log(max((run.best - value_at(run, units)) / span, LEAST_REGRET))


def time_to_goal(run: Run) -> float | None:
    """Return the compute at which the incumbent reaches the goal; None if it never does."""
    return next((at for at, _, _, truth in run.path if truth >= run.goal - 1e-9), None)


def log_time(run: Run) -> float:
    """Return ln of the time to the goal; twice the horizon if it is not reached."""
    at = time_to_goal(run)
    return math.log(2 * run.units if at is None else max(at, 1e-3))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A ratio with its 95 % bootstrap interval."""

    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return the interval as in the tables."""
        return f"{self.ratio:.2f} ({self.low:.2f}-{self.high:.2f})"


def compare(
    runs: Iterable[Run], reference: Iterable[Run], measure: Callable[[Run], float]
) -> tuple[Interval, dict[str, Interval]]:
    """Return the geometric mean of reference / method, over all tables and for each.

    Runs are paired by table and seed; above 1 the method is better. The bootstrap resamples tables,
    then seeds within each.

    Args:
        runs: Runs of the method.
        reference: Runs of the reference.
        measure: Logarithm of what is compared, less being better.
    """
    own = {(run.table, run.seed): measure(run) for run in runs}
    other = {(run.table, run.seed): measure(run) for run in reference}
    by_table: dict[str, list[float]] = {}
    for key in sorted(own.keys() & other.keys()):
        by_table.setdefault(key[0], []).append(other[key] - own[key])
    tables = {name: np.array(values) for name, values in by_table.items()}
    return _interval(tables), {name: _interval({name: v}) for name, v in tables.items()}


def _interval(tables: Mapping[str, np.ndarray]) -> Interval:
    if not tables:
        return Interval(ratio=math.nan, low=math.nan, high=math.nan)
    rng = np.random.default_rng(0)
    names, means = list(tables), []
    for _ in range(RESAMPLES):
        chosen = [tables[names[i]] for i in rng.integers(len(names), size=len(names))]
        means.append(np.mean([v[rng.integers(len(v), size=len(v))].mean() for v in chosen]))
    low, high = np.exp(np.percentile(means, [2.5, 97.5]))
    ratio = np.exp(np.mean([values.mean() for values in tables.values()]))
    return Interval(ratio=float(ratio), low=float(low), high=float(high))
