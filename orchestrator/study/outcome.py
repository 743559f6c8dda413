"""Outcome of a trial after an attempt: complete, pruned, failed, or another attempt.

Measurements take precedence: a trial measured at its maximum budget is complete, whatever happens
to its worker afterwards.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from orchestrator.objective import Objective, objective_values
from orchestrator.trial import Trial, TrialState
from search_spaces.plugins import did_you_mean
from workers.budget import Budget
from workers.failures import Failure, FailureKind
from workers.job import AttemptKey
from workers.measurement import Measurement

if TYPE_CHECKING:
    from orchestrator.ledger import AttemptRecord  # `status` reads this module without a ledger


@dataclass(slots=True, kw_only=True)
class RunningAttempt:
    """A running attempt."""

    key: AttemptKey
    started: float
    """Monotonic time of the study's clock."""
    pruned: bool = False
    """True if a rung has pruned the trial."""
    failure: Failure | None = None
    """Failure that its measurements show."""

    @property
    def is_decided(self) -> bool:
        """True if further reports cannot change its outcome."""
        return self.pruned or self.failure is not None


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
    past_outcomes: Sequence[str],
) -> TrialOutcome | Failure:
    """Return the outcome of a trial after an attempt, or the failure that earns a retry.

    Args:
        trial: The trial as recorded.
        attempt: The attempt that ended.
        failure: Failure that the engine reported; None otherwise.
        budget: The study's budget.
        objectives: The study's objectives.
        past_outcomes: Outcomes of the trial's earlier attempts.
    """
    reached = trial.reached
    if reached >= budget.maximum:
        values = objective_values(objectives, trial.measurements[-1].metrics, trial.cost)
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
    if measurement.fidelity == rungs[0]:
        when = f"first judged at {budget.unit} {rungs[0]}: if it is measured later, set "
        when += f"budget.minimum to that {budget.unit}"
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


RETRIES: Mapping[str, float] = {
    "no_space": math.inf,
    "infrastructure": 5,
    "crash": 2,
    "timeout": 2,
    "out_of_memory": 1,
}
"""Number of retries by class of failure; other classes have none.

A full disk stops the study, and its trials wait until there is space. A lost machine is not the
trial's fault, so it is retried freely; the limit of five bounds the cost of errors that only look
like one. A dead process may have been killed by its own trial. User code and divergence would fail
in the same way again.
"""

MAX_LOSSES = 3
"""Attempts in a row that may end with their driver, without an epoch, before the trial fails.

A trial can kill its driver: in process by a segmentation fault, elsewhere if the kernel kills the
whole container for one process's memory. So can a power cut; but an attempt that recorded an epoch
shows that the trial is not the cause.
"""


_FIRST = 5
"""Trials at the start of a driver that are checked for equal failures."""
_ALIKE = 3
"""Equal failures among them that abort the search."""
_WINDOW = 20
"""Latest trials; the search is aborted if more than half of them failed."""


def earns_retry(kind: str, past_outcomes: Sequence[str]) -> bool:
    """Return whether a failed attempt is followed by another one.

    Args:
        kind: Class of the failure.
        past_outcomes: Outcomes of the trial's earlier attempts.
    """
    return list(past_outcomes).count(kind) < RETRIES.get(kind, 0)


def losses(attempts: "Sequence[AttemptRecord]") -> int:
    """Return the number of latest attempts in a row that were lost and recorded no epoch.

    Args:
        attempts: The trial's attempts, oldest first.
    """
    lost = takewhile(lambda a: a.outcome == "lost" and not a.measured, reversed(attempts))
    return sum(1 for _ in lost)


def lost_too_often(study: str, number: int) -> Failure:
    """Return the failure of a trial whose last MAX_LOSSES attempts were lost.

    Args:
        study: The study's name.
        number: The trial's number.
    """
    return Failure.without_traceback(
        FailureKind.INFRASTRUCTURE,
        f"the driver's process died {MAX_LOSSES} times in a row while trial {number} ran, with no "
        "new epoch recorded: the trial may have killed it (out of memory, a crash in native code). "
        f"To try it again: archscout retry {study} --class infrastructure",
    )


def resource_shares(past_outcomes: Sequence[str], parent: Trial | None) -> int:
    """Return the multiple of the usual share of the machine: doubled whenever memory ran out.

    Args:
        past_outcomes: Outcomes of the trial's earlier attempts.
        parent: The trial that it retries; None otherwise.
    """
    times = list(past_outcomes).count("out_of_memory")
    times += parent is not None and parent.reason == "out_of_memory"
    return int(2**times)


def abort_reason(ended: Sequence[Trial]) -> str | None:
    """Return the reason to abort the search after too many failures; None otherwise.

    Args:
        ended: Attempted trials that ended since this driver started, in order. Earlier ones do not
            count, because an aborted study is resumed after a change.
    """
    failed = [trial for trial in ended if trial.state is TrialState.FAIL]
    if len(failed) == len(ended) <= _FIRST:
        alike = [trial for trial in failed if _digest(trial) == _digest(failed[-1])]
        if len(alike) >= _ALIKE:
            return (
                f"the first {len(ended)} trials failed, {len(alike)} alike: {_message(alike[-1])}"
            )
    recent = sum(trial.state is TrialState.FAIL for trial in ended[-_WINDOW:])
    if recent > _WINDOW // 2:
        return (
            f"{recent} of the last {min(len(ended), _WINDOW)} trials failed, "
            f"the last one with: {_message(failed[-1])}"
        )
    return None


def all_failed(trials: Sequence[Trial]) -> str | None:
    """Return a message if trials were attempted and all of them failed; None otherwise."""
    attempted = [trial for trial in trials if trial.attempts]
    if not attempted or any(trial.state is not TrialState.FAIL for trial in attempted):
        return None
    return f"every one of {len(attempted)} trials failed, the last with: {_message(attempted[-1])}"


def _digest(trial: Trial) -> object:
    return (trial.failure or {}).get("digest")


def _message(trial: Trial) -> str:
    failure = trial.failure or {}
    return f"{failure.get('kind')}: {failure.get('message')}"
