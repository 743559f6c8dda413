"""Objectives: which of two results is better, the Pareto front, and the ranking of a study.

Knows values and trials only: neither who proposes nor who trains.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import ge
from typing import Literal

from pydantic import ConfigDict, StrictStr
from pydantic.dataclasses import dataclass as checked_dataclass

from orchestrator.errors import sanitize
from orchestrator.trial import Trial, TrialState
from search_spaces.errors import ArchscoutError, ExitCode
from search_spaces.plugins import did_you_mean
from workers.metrics import COST_METRICS

_RANKED_KINDS = frozenset({"search", "continue", "retry"})


@checked_dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Objective:
    """A metric that the search optimizes, checked when it is made.

    Example:
        >>> Objective(metric="val_loss", direction="minimize").score(0.25)
        -0.25
    """

    metric: StrictStr
    """Name of a measured metric, or of a cost."""
    direction: Literal["maximize", "minimize"]
    """Which way is better."""

    @property
    def is_cost(self) -> bool:
        """Whether it is known before training."""
        return self.metric in COST_METRICS

    def score(self, value: float) -> float:
        """The value, turned so that more is better."""
        return value if self.direction == "maximize" else -value


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The trials of a study, best first, each compared at equal fidelity only."""

    complete: tuple[Trial, ...]
    """COMPLETE trials; with several objectives those on the Pareto front come first."""
    pruned: tuple[Trial, ...]
    """PRUNED trials that were measured: the further trained the earlier, then by judged metric."""


def objective_values(
    objectives: Sequence[Objective], metrics: Mapping[str, float], cost: Mapping[str, float]
) -> tuple[float, ...] | None:
    """The objective values in the study's order; None where one was not measured."""
    known = {**metrics, **cost}
    values = [known.get(objective.metric) for objective in objectives]
    return None if None in values else tuple(float(v) for v in values if v is not None)


def dominates(
    better: Sequence[float], worse: Sequence[float], objectives: Sequence[Objective]
) -> bool:
    """Whether the first is nowhere worse and somewhere better."""
    pairs = [(o.score(a), o.score(b)) for o, a, b in zip(objectives, better, worse, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def pareto_front(trials: Iterable[Trial], objectives: Sequence[Objective]) -> tuple[Trial, ...]:
    """The complete trials that no other dominates, by number; equals stay together.

    Sorted from the best first objective down, a trial can be dominated by earlier ones only, so
    each is compared with the front so far instead of with all.
    """
    front: list[tuple[Trial, tuple[float, ...]]] = []
    for trial in sorted(_ranked(trials), key=lambda t: _scores(t, objectives), reverse=True):
        values = trial.values or ()
        if not any(dominates(kept, values, objectives) for _, kept in front):
            front.append((trial, values))
    return tuple(sorted((trial for trial, _ in front), key=lambda t: t.number))


def pareto_order(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Sort keys that order points by non-domination, larger keys being better.

    The crowded-comparison order of NSGA-II (Deb et al. 2002): a point of an earlier front comes
    first, and within a front the one of larger crowding distance, so both ends lead. Equal points
    get equal keys; points of one objective are ordered by their value.

    Args:
        points: Scores of equal length, more being better in each.

    Returns:
        A key for each point, in the given order.
    """
    if not points or len(points[0]) < 2:
        return list(points)
    keys: dict[tuple[float, ...], tuple[float, ...]] = {}
    for number, front in enumerate(_fronts(points)):
        keys |= {point: (-number, distance) for point, distance in _crowding(front).items()}
    return [keys[point] for point in points]


def best(trials: Iterable[Trial], objectives: Sequence[Objective]) -> Trial | None:
    """The complete trial best in the first objective, then the next; the earliest of equals."""
    return max(_ranked(trials), key=lambda t: (*_scores(t, objectives), -t.number), default=None)


def reaches_target(trial: Trial, first: Objective, target: float | None) -> bool:
    """Whether a trial is complete and its first objective good enough."""
    if target is None or trial.state is not TrialState.COMPLETE or not trial.values:
        return False
    return first.score(trial.values[0]) >= first.score(target)


def rank(trials: Iterable[Trial], objectives: Sequence[Objective], judge: Objective) -> Ranking:
    """Orders a study's trials for people.

    Args:
        trials: The study's, in any order.
        objectives: What the study makes better.
        judge: By what trials stopped at one fidelity are ordered.
    """
    known = tuple(trials)
    front = {trial.uid for trial in pareto_front(known, objectives)} if len(objectives) > 1 else ()
    complete = sorted(
        _ranked(known),
        key=lambda t: (t.uid not in front, *(-s for s in _scores(t, objectives)), t.number),
    )
    stopped = [
        t
        for t in known
        if t.state is TrialState.PRUNED and t.measurements and t.kind in _RANKED_KINDS
    ]
    return Ranking(
        complete=tuple(complete), pruned=tuple(sorted(stopped, key=lambda t: _reach(t, judge)))
    )


def _fronts(points: Sequence[tuple[float, ...]]) -> list[list[tuple[float, ...]]]:
    """Non-dominated fronts of the distinct points (efficient sort of Zhang et al. 2015).

    Sorted from the best first score down, a point can be dominated by earlier ones only. A front
    without a dominator of it has none behind it either, so the front is found by bisection.
    """
    fronts: list[list[tuple[float, ...]]] = []
    for point in sorted(set(points), reverse=True):
        low, high = 0, len(fronts)
        while low < high:
            middle = (low + high) // 2
            if any(all(map(ge, other, point)) for other in reversed(fronts[middle])):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts):
            fronts.append([])
        fronts[low].append(point)
    return fronts


def _crowding(front: Sequence[tuple[float, ...]]) -> dict[tuple[float, ...], float]:
    """Crowding distance of each point of a front; infinite at the ends of each objective."""
    distances = dict.fromkeys(front, 0.0)
    for axis in range(len(front[0])):
        ranked = sorted(front, key=lambda point: (point[axis], point))
        low, high = ranked[0], ranked[-1]
        if low[axis] == high[axis]:
            continue
        distances[low] = distances[high] = math.inf
        for before, point, after in zip(ranked, ranked[1:], ranked[2:], strict=False):
            distances[point] += (after[axis] - before[axis]) / (high[axis] - low[axis])
    return distances


def _reach(trial: Trial, judge: Objective) -> tuple[float, float, int]:
    last = trial.measurements[-1]
    value = last.metrics.get(judge.metric)
    score = float("-inf") if value is None else judge.score(value)
    return (-last.fidelity, -score, trial.number)


def _ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Complete trials that stand for themselves: neither duplicates nor confirmations."""
    return [
        t
        for t in trials
        if t.state is TrialState.COMPLETE and t.reason != "duplicate" and t.kind in _RANKED_KINDS
    ]


def _scores(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, ...]:
    return tuple(o.score(v) for o, v in zip(objectives, trial.values or (), strict=True))


OF_ALL = 0.05
"""How much the sum of all distances counts beside the largest."""


class PreferenceError(ArchscoutError, ValueError):
    """A preference that cannot be applied: says why, and what would do."""

    exit_code = ExitCode.INPUT


def parse_preference(text: str, objectives: Sequence[Objective]) -> dict[str, float]:
    """Weights by objective that sum to one, read from `metric=weight,...`; 0 for those left out.

    Raises:
        PreferenceError: A metric is no objective, a weight is no number from 0, or all are 0.
    """
    metrics = [objective.metric for objective in objectives]
    if len(metrics) < 2:
        raise PreferenceError(
            f"--prefer weighs several objectives; this study has one, {metrics[0]}: leave it out"
        )
    example = even_weights(objectives)
    weights = dict.fromkeys(metrics, 0.0)
    said = set()
    for part in text.split(","):
        metric, equals, number = (word.strip() for word in part.partition("="))
        if not equals:
            raise PreferenceError(f"--prefer: '{sanitize(part)}' is no weight; write {example}")
        if metric not in weights:
            raise PreferenceError(
                f"--prefer: '{sanitize(metric)}' is no objective of this study. Objectives: "
                f"{', '.join(metrics)}.{did_you_mean(metric, metrics)}"
            )
        if metric in said:
            raise PreferenceError(f"--prefer: '{metric}' is weighed twice; write {example}")
        said.add(metric)
        weights[metric] = _weight(metric, number)
    if not (total := math.fsum(weights.values())):
        raise PreferenceError(f"--prefer: no weight is above 0; write {example}")
    return {metric: weight / total for metric, weight in weights.items()}


def even_weights(objectives: Sequence[Objective]) -> str:
    """A preference for all objectives alike, as it is typed."""
    return ",".join(f"{each.metric}={1 / len(objectives):.2g}" for each in objectives)


def _weight(metric: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and 0 <= weight <= 1e9):
        raise PreferenceError(
            f"--prefer: the weight of {metric} is a number from 0, not '{sanitize(text)}'"
        )
    return weight


def preference_distances(
    results: Sequence[Sequence[float]],
    objectives: Sequence[Objective],
    weights: Mapping[str, float],
) -> list[float]:
    """How far each result, a value an objective, is from what is preferred; 0 is best in all."""
    columns = []
    for index, objective in enumerate(objectives):
        scores = [objective.score(values[index]) for values in results]
        best, worst = max(scores, default=0.0), min(scores, default=0.0)
        span = best - worst or 1.0
        columns.append([weights[objective.metric] * (best - score) / span for score in scores])
    return [max(parts) + OF_ALL * math.fsum(parts) for parts in zip(*columns, strict=True)]
