"""Objectives: compare results, find the Pareto front, rank a study's trials, weigh preferences."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import ge
from typing import Literal

from pydantic import ConfigDict, StrictStr
from pydantic.dataclasses import dataclass as checked_dataclass

from orchestrator.errors import sanitize
from orchestrator.trial import CONTINUE, Trial, TrialState, newest_continuations
from search_spaces.errors import ArchscoutError, ExitCode
from search_spaces.plugins import did_you_mean
from search_spaces.space import Constraint
from workers.measurement import Measurement
from workers.metrics import COST_METRICS

CheckpointName = Literal["last", "best"]
"""Epoch that gives a trial its values and its checkpoint."""

_RANKED_KINDS = frozenset({"search", CONTINUE, "retry"})


@checked_dataclass(frozen=True, slots=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Objective:
    """A metric that the search optimizes, checked when it is made.

    Examples:
        >>> Objective(metric="val_loss", direction="minimize").score(0.25)
        -0.25
    """

    metric: StrictStr
    """Name of a measured metric or a cost."""
    direction: Literal["maximize", "minimize"]
    """Direction of improvement."""

    @property
    def is_cost(self) -> bool:
        """True if it is a cost, known before training."""
        return self.metric in COST_METRICS

    def score(self, value: float) -> float:
        """Return the value, negated if less is better, so that more is better."""
        return value if self.direction == "maximize" else -value


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Trials of a study, best first, compared at equal fidelity."""

    complete: tuple[Trial, ...]
    """COMPLETE trials; with several objectives, those on the Pareto front first."""
    pruned: tuple[Trial, ...]
    """PRUNED trials with measurements: longest trained first, then by the main objective."""


def violations_of(cost: Mapping[str, float], constraints: Iterable[Constraint]) -> dict[str, float]:
    """Return the violation of each constraint; of several on one metric, the tightest counts."""
    found: dict[str, float] = {}
    for each in constraints:
        if each.metric in cost:
            excess = each.violation(cost[each.metric])
            found[each.metric] = max(excess, found.get(each.metric, excess))
    return found


def under_constraints(trial: Trial, constraints: Sequence[Constraint]) -> Trial:
    """Return a trial with its violations of constraints as they are now; others stay recorded."""
    found = violations_of(trial.cost, constraints)
    return replace(trial, violations={**trial.violations, **found}) if found else trial


def is_feasible(trial: Trial) -> bool:
    """Return whether a trial violates no constraint."""
    return all(violation <= 0 for violation in trial.violations.values())


def objective_values(
    objectives: Sequence[Objective], metrics: Mapping[str, float], cost: Mapping[str, float]
) -> tuple[float, ...] | None:
    """Return the objective values in the study's order; None if one was not measured."""
    known = {**metrics, **cost}
    values = [known.get(objective.metric) for objective in objectives]
    return None if None in values else tuple(float(v) for v in values if v is not None)


def epoch_objective(
    objectives: Sequence[Objective], checkpoint: CheckpointName
) -> Objective | None:
    """Return the objective that chooses a trial's epoch; None where that is the last one.

    It is the first trained one. A study of costs alone always takes the last epoch.
    """
    if checkpoint == "last":
        return None
    return next((objective for objective in objectives if not objective.is_cost), None)


def scored_measurement(
    trial: Trial, objectives: Sequence[Objective], checkpoint: CheckpointName
) -> Measurement | None:
    """Return the measurement that gives a trial its values, and whose checkpoint is kept.

    Args:
        trial: A trial with its measurements.
        objectives: The study's objectives.
        checkpoint: `last` for the last epoch, `best` for the best one by `epoch_objective`, the
            earliest of equals. Of a continuation only its own epochs count, as it keeps no other
            checkpoints.

    Returns:
        None if nothing was measured.
    """
    measured = trial.own_measurements or trial.measurements
    last = measured[-1] if measured else None
    judge = epoch_objective(objectives, checkpoint)
    if judge is None:
        return last
    complete = [
        seen
        for seen in measured
        if objective_values(objectives, seen.metrics, trial.cost) is not None
    ]
    return max(complete, key=lambda seen: judge.score(seen.metrics[judge.metric]), default=last)


def dominates(
    better: Sequence[float], worse: Sequence[float], objectives: Sequence[Objective]
) -> bool:
    """Return whether the first result is nowhere worse and somewhere better."""
    pairs = [(o.score(a), o.score(b)) for o, a, b in zip(objectives, better, worse, strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


def pareto_front(trials: Iterable[Trial], objectives: Sequence[Objective]) -> tuple[Trial, ...]:
    """Return the complete trials that no other dominates, by number; equal results all stay.

    Sorted by the first objective, a trial can only be dominated by earlier ones, so each is
    compared with the front so far instead of with all.
    """
    front: list[tuple[Trial, tuple[float, ...]]] = []
    for trial in sorted(_ranked(trials), key=lambda t: _scores(t, objectives), reverse=True):
        values = trial.values or ()
        if not any(dominates(kept, values, objectives) for _, kept in front):
            front.append((trial, values))
    return tuple(sorted((trial for trial, _ in front), key=lambda t: t.number))


def pareto_order(points: Sequence[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Return sort keys that order points by non-domination, larger keys being better.

    The crowded-comparison order of NSGA-II (Deb et al. 2002): earlier fronts come first, and within
    a front larger crowding distances, so its extremes lead. Equal points get equal keys; points of
    one objective are ordered by their value.

    Args:
        points: Score vectors of equal length, more being better.

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
    """Return the best complete trial by the objectives in order; the earliest of equals."""
    return max(_ranked(trials), key=lambda t: (*_scores(t, objectives), -t.number), default=None)


def reaches_target(trial: Trial, first: Objective, target: float | None) -> bool:
    """Return whether a trial is complete and its first objective reaches the target."""
    if target is None or trial.state is not TrialState.COMPLETE or not trial.values:
        return False
    return first.score(trial.values[0]) >= first.score(target)


def rank(trials: Iterable[Trial], objectives: Sequence[Objective], judge: Objective) -> Ranking:
    """Rank a study's trials.

    Args:
        trials: The study's trials, in any order.
        objectives: The study's objectives.
        judge: Objective that orders trials pruned at one fidelity.
    """
    known = tuple(trials)
    front = {trial.uid for trial in pareto_front(known, objectives)} if len(objectives) > 1 else ()
    complete = sorted(
        _ranked(known),
        key=lambda t: (t.uid not in front, *(-s for s in _scores(t, objectives)), t.number),
    )
    stopped = [
        t
        for t in newest_continuations(known)
        if t.state is TrialState.PRUNED and t.measurements and t.kind in _RANKED_KINDS
    ]
    return Ranking(
        complete=tuple(complete), pruned=tuple(sorted(stopped, key=lambda t: _reach(t, judge)))
    )


def _fronts(points: Sequence[tuple[float, ...]]) -> list[list[tuple[float, ...]]]:
    """Return the non-dominated fronts of the distinct points (Zhang et al. 2015).

    Sorted by the first score, a point can only be dominated by earlier ones. If no point of a front
    dominates it, none of a later front does, so its front is found by bisection.
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
    """Return the crowding distance of each point of a front; infinite for its extremes."""
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
    """Return the complete feasible trials of the highest fidelity, which can be compared.

    Without duplicates, confirmations, and trials whose continuation is complete. Fidelities differ
    only after the maximum was raised; results that are reused from another study have its own.
    """
    complete = [
        t
        for t in trials
        if t.state is TrialState.COMPLETE
        and t.reason != "duplicate"
        and t.kind in _RANKED_KINDS
        and is_feasible(t)
    ]
    continued = {t.parent for t in complete if t.kind == CONTINUE}
    complete = [t for t in complete if t.uid not in continued]
    highest = max((t.reached for t in complete), default=0)
    return [t for t in complete if not t.measurements or t.reached == highest]


def _scores(trial: Trial, objectives: Sequence[Objective]) -> tuple[float, ...]:
    return tuple(o.score(v) for o, v in zip(objectives, trial.values or (), strict=True))


SUM_WEIGHT = 0.05
"""Weight of the sum of the distances relative to the largest (augmented Chebyshev)."""


class PreferenceError(ArchscoutError, ValueError):
    """A preference between objectives that cannot be applied."""

    exit_code = ExitCode.INPUT


def parse_preference(text: str, objectives: Sequence[Objective]) -> dict[str, float]:
    """Parse `metric=weight,...` into weights by objective that sum to 1; 0 for missing ones.

    Raises:
        PreferenceError: A metric is not an objective, a weight is negative or not a number, or all
            weights are 0.
    """
    metrics = [objective.metric for objective in objectives]
    if len(metrics) < 2:
        raise PreferenceError(
            f"--prefer weighs several objectives; this study has one, {metrics[0]}: leave it out"
        )
    example = even_weights(objectives)
    weights = dict.fromkeys(metrics, 0.0)
    seen = set()
    for part in text.split(","):
        metric, equals, number = (word.strip() for word in part.partition("="))
        if not equals:
            raise PreferenceError(f"--prefer: '{sanitize(part)}' is not a weight; write {example}")
        if metric not in weights:
            raise PreferenceError(
                f"--prefer: '{sanitize(metric)}' is not an objective of this study. Objectives: "
                f"{', '.join(metrics)}.{did_you_mean(metric, metrics)}"
            )
        if metric in seen:
            raise PreferenceError(f"--prefer: '{metric}' is weighed twice; write {example}")
        seen.add(metric)
        weights[metric] = _weight(metric, number)
    if not (total := math.fsum(weights.values())):
        raise PreferenceError(f"--prefer: no weight is above 0; write {example}")
    return {metric: weight / total for metric, weight in weights.items()}


def even_weights(objectives: Sequence[Objective]) -> str:
    """Return an equal preference for all objectives, as typed on the command line."""
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
    """Return the weighted distance of each result from the best values; 0 is best in all."""
    columns = []
    for index, objective in enumerate(objectives):
        scores = [objective.score(values[index]) for values in results]
        best, worst = max(scores, default=0.0), min(scores, default=0.0)
        span = best - worst or 1.0
        columns.append([weights[objective.metric] * (best - score) / span for score in scores])
    return [max(parts) + SUM_WEIGHT * math.fsum(parts) for parts in zip(*columns, strict=True)]
