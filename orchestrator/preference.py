"""A preference over several objectives, said after the search: which of the front it picks.

    archscout leaderboard NAME --prefer val_accuracy=0.7,val_mae=0.3

Each objective is scaled to 0 (the best of the complete trials) to 1 (the worst). A trial counts its
largest weighted distance from the best, and a little of all together: the augmented Chebyshev
scalarisation (Steuer and Choo 1983), with the constant of ParEGO (Knowles 2006). Every trial on the
front is the choice of some weights; a weighted sum would never choose one in a hollow of it.
"""

import math
from collections.abc import Mapping, Sequence

from orchestrator.errors import clean, nearest
from orchestrator.objective import Objective

OF_ALL = 0.05
"""How much the sum of all distances counts beside the largest."""


class PreferenceError(ValueError):
    """A preference that cannot be applied: says why, and what would do."""


def preference(text: str, objectives: Sequence[Objective]) -> dict[str, float]:
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
            raise PreferenceError(f"--prefer: '{clean(part)}' is no weight; write {example}")
        if metric not in weights:
            raise PreferenceError(
                f"--prefer: '{clean(metric)}' is no objective of this study. Objectives: "
                f"{', '.join(metrics)}.{nearest(metric, metrics)}"
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
            f"--prefer: the weight of {metric} is a number from 0, not '{clean(text)}'"
        )
    return weight


def distances(
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
