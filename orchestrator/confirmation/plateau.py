"""Plateau of a search: whether its best value still rises by more than noise."""

import math
import statistics
from collections.abc import Iterable, Sequence
from itertools import pairwise

from orchestrator.confirmation.plan import IS_DEFAULT, KIND
from orchestrator.confirmation.units import MetricUnit
from orchestrator.objective import Objective, best
from orchestrator.trial import Trial, TrialState

MIN_WINDOW = 10
"""Least number of complete trials without a rise."""
LATE_SHARE = 3
"""The last one in so many epochs of a training is late: there its curve is nearly flat."""


def plateau(trials: Sequence[Trial], objectives: Sequence[Objective]) -> str | None:
    """Return why more search is not worth it; None while it is, and with several objectives.

    The best value has risen by no more than the noise of one training over the last half of the
    complete trials, and at least MIN_WINDOW of them.

    Args:
        trials: All trials of the study by number, with their measurements.
        objectives: The study's objectives.
    """
    if len(objectives) > 1:
        return None
    [objective] = objectives
    complete = [trial for trial in trials if best([trial], objectives) is not None]
    scores = [objective.score(value) for trial in complete for value in trial.values or ()]
    window = max(MIN_WINDOW, len(scores) // 2)
    if len(scores) <= window or (noise := _noise(trials, complete, objective)) is None:
        return None
    spread, source = noise
    rise = max(scores) - max(scores[:-window])
    if rise > spread:
        return None
    unit = MetricUnit.of(objective.metric, scores)
    return (
        f"more search is not worth it: over the last {window} complete trials the best "
        f"{objective.metric} has risen by {unit.difference(rise)}, no more than the noise of one "
        f"training ({unit.difference(spread)}, {source})"
    )


def _noise(
    trials: Iterable[Trial], complete: Iterable[Trial], objective: Objective
) -> tuple[float, str] | None:
    """Return the standard deviation of one training and its source; None if it is unknown."""
    repeated = [
        trial.values[0]
        for trial in trials
        if trial.kind == KIND and trial.sampler_attrs[IS_DEFAULT] and trial.values
    ]
    if len(repeated) > 2:
        return statistics.stdev(repeated), f"of the default over {len(repeated)} seeds"
    steps = [found for trial in complete if (found := _late_steps(trial, objective))]
    freedom = sum(len(found) - 1 for found in steps)
    if not freedom:
        return None
    squares = sum((step - statistics.fmean(found)) ** 2 for found in steps for step in found)
    # The difference of two epochs has the noise of both.
    return math.sqrt(squares / freedom / 2), "from epoch to epoch at the end"


def _late_steps(trial: Trial, objective: Objective) -> list[float]:
    """Return the differences between late epochs of a complete trial."""
    if trial.state is not TrialState.COMPLETE:
        return []
    values = [seen.metrics.get(objective.metric) for seen in trial.measurements]
    late = [value for value in values[-(len(values) // LATE_SHARE) :] if value is not None]
    return [after - before for before, after in pairwise(late)]
