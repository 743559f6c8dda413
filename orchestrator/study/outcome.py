"""Outcome of a trial after an attempt: complete, pruned, failed, or another attempt.

Measurements take precedence: a trial measured at its maximum budget is complete, whatever happens
to its worker afterwards.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from orchestrator.objective import (
    CheckpointName,
    Objective,
    objective_values,
    scored_measurement,
)
from orchestrator.study.retry_policy import earns_retry
from orchestrator.trial import Trial, TrialState
from search_spaces.plugins import did_you_mean
from workers.budget import Budget
from workers.failures import Failure, FailureKind
from workers.job import AttemptKey
from workers.measurement import Measurement


@dataclass(slots=True, kw_only=True)
class RunningAttempt:
    """A running attempt."""

    key: AttemptKey
    started: float
    """Monotonic time of the study's clock."""
    pruned: bool = False
    """True if a rung has pruned the trial."""
    paused: bool = False
    """True if a rung has paused the trial."""
    failure: Failure | None = None
    """Failure that its measurements show."""
    outdated: bool = False
    """True if the budget has changed since its start: it continues as another attempt."""

    @property
    def is_decided(self) -> bool:
        """True if further reports cannot change its outcome."""
        return self.pruned or self.paused or self.failure is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """Outcome of a trial."""

    state: TrialState
    reason: str | None = None
    values: tuple[float, ...] | None = None
    failure: Failure | None = None

    @property
    def summary(self) -> str:
        """State and reason, for display."""
        return f"{self.state} ({self.reason})" if self.reason else str(self.state)


def decide_outcome(
    trial: Trial,
    attempt: RunningAttempt,
    failure: Failure | None,
    *,
    budget: Budget,
    objectives: Sequence[Objective],
    checkpoint: CheckpointName,
    past_outcomes: Sequence[str],
) -> TrialOutcome | Failure:
    """Return the outcome of a trial after an attempt, or the failure that earns a retry.

    Args:
        trial: The trial as recorded.
        attempt: The attempt that ended.
        failure: Failure that the engine reported; None otherwise.
        budget: The study's budget.
        objectives: The study's objectives.
        checkpoint: Epoch that gives the trial its values.
        past_outcomes: Outcomes of the trial's earlier attempts.
    """
    reached = trial.reached
    if reached >= budget.maximum:
        scored = scored_measurement(trial, objectives, checkpoint) or trial.measurements[-1]
        values = objective_values(objectives, scored.metrics, trial.cost)
        if values is not None:
            return TrialOutcome(state=TrialState.COMPLETE, values=values)
        failure = missing_objectives(trial.cost, trial.measurements[-1], objectives, budget)
    elif attempt.pruned:
        return TrialOutcome(state=TrialState.PRUNED, reason="rung")
    failure = attempt.failure or failure or _ended_early(reached, budget)
    if failure.kind is FailureKind.DIVERGED:
        return TrialOutcome(state=TrialState.PRUNED, reason="diverged", failure=failure)
    if earns_retry(failure.kind, past_outcomes):
        return failure
    return TrialOutcome(state=TrialState.FAIL, reason=_reason(failure), failure=failure)


def divergence(measurement: Measurement, objectives: Collection[Objective]) -> Failure | None:
    """Return the failure of a measurement whose objectives are not finite; None otherwise.

    Args:
        measurement: The measurement.
        objectives: Objectives that trials are compared by; other metrics end no trial.
    """
    names = {objective.metric for objective in objectives}
    bad = {name: value for name, value in _not_finite(measurement).items() if name in names}
    if not bad:
        return None
    return Failure.without_traceback(
        FailureKind.DIVERGED, f"no finite number at epoch {measurement.fidelity}: {_listed(bad)}"
    )


def split_finite(measurement: Measurement) -> tuple[Measurement, Mapping[str, float]]:
    """Return a measurement with its finite metrics, and its metrics that are not finite."""
    bad = _not_finite(measurement)
    if not bad:
        return measurement, bad
    finite = {name: value for name, value in measurement.metrics.items() if name not in bad}
    return replace(measurement, metrics=finite), bad


def _not_finite(measurement: Measurement) -> dict[str, float]:
    return {name: value for name, value in measurement.metrics.items() if not math.isfinite(value)}


def missing_objectives(
    cost: Mapping[str, float],
    measurement: Measurement,
    objectives: Sequence[Objective],
    budget: Budget,
) -> Failure | None:
    """Return the failure of a measurement that lacks an objective; None otherwise.

    Args:
        cost: Costs of the trial, which need no measurement.
        measurement: Measurement at a rung.
        objectives: The study's objectives.
        budget: The study's budget.
    """
    known = {*measurement.metrics, *cost}
    missing = [o.metric for o in objectives if o.metric not in known]
    if not missing:
        return None
    rungs = budget.rungs()
    if measurement.fidelity <= rungs[0]:
        when = f"first judged at {budget.unit} {measurement.fidelity}: if it is measured later, "
        when += f"set budget.minimum to that {budget.unit}"
    else:
        when = f"judged at {budget.unit}s {', '.join(map(str, rungs))}: choose a budget (minimum, "
        when += f"maximum, reduction_factor) whose {budget.unit}s all measure it"
    text = (
        f"objective {', '.join(missing)} was not measured at {budget.unit} {measurement.fidelity}."
    )
    text += f"{did_you_mean(missing[0], measurement.metrics)} Trials are {when}."
    text += f" Measured: {_listed(measurement.metrics)}"
    return Failure.without_traceback(FailureKind.USER_CODE, text)


def _reason(failure: Failure) -> str:
    """Return the trial's reason; only attempts distinguish dead processes from lost machines."""
    lost = failure.kind is FailureKind.CRASH
    return str(FailureKind.INFRASTRUCTURE if lost else failure.kind)


def _ended_early(reached: int, budget: Budget) -> Failure:
    return Failure.without_traceback(
        FailureKind.USER_CODE,
        f"training ended by itself after {budget.unit} {reached} of {budget.maximum}",
    )


def _listed(metrics: Mapping[str, float]) -> str:
    return ", ".join(sorted(metrics)) or "nothing"
