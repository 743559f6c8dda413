"""Endings: what an attempt's end makes of its trial.

Facts come first: a trial measured at the top of its budget is complete, whatever happened to its
worker afterwards. Knows no ledger and no engine.
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
    """One attempt under way."""

    key: AttemptKey
    started: float
    """By the study's monotonic clock."""
    stopped: bool = False
    """A rung has said stop."""
    failure: Failure | None = None
    """What its measurements have shown to be wrong."""

    @property
    def is_over(self) -> bool:
        """Whether nothing it reports can change how it ends."""
        return self.stopped or self.failure is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """How a trial ends."""

    state: TrialState
    reason: str | None = None
    values: tuple[float, ...] | None = None
    failure: Failure | None = None

    @property
    def words(self) -> str:
        """State and reason, for people."""
        return f"{self.state} ({self.reason})" if self.reason else str(self.state)


def decide_outcome(
    trial: Trial,
    attempt: RunningAttempt,
    failure: Failure | None,
    *,
    budget: Budget,
    objectives: Sequence[Objective],
    earlier: Sequence[str],
) -> TrialOutcome | Failure:
    """How a trial ends with this attempt, or the failure after which it gets another one.

    Args:
        trial: As recorded.
        attempt: The one that ended.
        failure: What its engine saw.
        budget: The study's.
        objectives: The study's.
        earlier: How the attempts before this one ended.
    """
    reached = trial.reached
    if reached >= budget.maximum:
        values = objective_values(objectives, trial.measurements[-1].metrics, trial.cost)
        if values is not None:
            return TrialOutcome(state=TrialState.COMPLETE, values=values)
        failure = missing_objectives(trial.cost, trial.measurements[-1], objectives, budget)
    elif attempt.stopped:
        return TrialOutcome(state=TrialState.PRUNED, reason="rung")
    failure = attempt.failure or failure or _ended_early(reached, budget)
    if failure.kind is FailureKind.DIVERGED:
        return TrialOutcome(state=TrialState.PRUNED, reason="diverged", failure=failure)
    if earns_retry(failure.kind, earlier):
        return failure
    return TrialOutcome(state=TrialState.FAIL, reason=_reason(failure), failure=failure)


def not_finite(seen: Measurement, judged: Collection[Objective]) -> Failure | None:
    """Return the divergence that a measurement shows, if any.

    Args:
        seen: The measurement.
        judged: Objectives by which the study compares trials; no other metric ends one.
    """
    names = {objective.metric for objective in judged}
    bad = {name: value for name, value in _not_finite(seen).items() if name in names}
    if not bad:
        return None
    return Failure.without_traceback(
        FailureKind.DIVERGED, f"no finite number at epoch {seen.fidelity}: {_listed(bad)}"
    )


def finite_part(seen: Measurement) -> tuple[Measurement, Mapping[str, float]]:
    """Split a measurement into what can be recorded, and its metrics that are not finite."""
    bad = _not_finite(seen)
    if not bad:
        return seen, bad
    kept = {name: value for name, value in seen.metrics.items() if name not in bad}
    return replace(seen, metrics=kept), bad


def _not_finite(seen: Measurement) -> dict[str, float]:
    return {name: value for name, value in seen.metrics.items() if not math.isfinite(value)}


def missing_objectives(
    cost: Mapping[str, float],
    seen: Measurement,
    objectives: Sequence[Objective],
    budget: Budget,
) -> Failure | None:
    """Return the failure of a measurement that lacks an objective, if it does.

    Args:
        cost: What the trial is known to cost; its names need no measurement.
        seen: Measurement at an epoch where trials are judged.
        objectives: The study's.
        budget: The study's.
    """
    known = {*seen.metrics, *cost}
    missing = [o.metric for o in objectives if o.metric not in known]
    if not missing:
        return None
    rungs = budget.rungs()
    if seen.fidelity == rungs[0]:
        when = f"first judged at {budget.unit} {rungs[0]}: if it is measured later, set "
        when += f"budget.minimum to that {budget.unit}"
    else:
        when = f"judged at {budget.unit}s {', '.join(map(str, rungs))}: choose a budget (minimum, "
        when += f"maximum, reduction_factor) whose {budget.unit}s all measure it"
    text = f"objective {', '.join(missing)} was not measured at {budget.unit} {seen.fidelity}."
    text += f"{did_you_mean(missing[0], seen.metrics)} Trials are {when}."
    text += f" Measured: {_listed(seen.metrics)}"
    return Failure.without_traceback(FailureKind.USER_CODE, text)


def _reason(failure: Failure) -> str:
    """The trial's reason, which does not tell a dead process from a lost machine; attempts do."""
    lost = failure.kind is FailureKind.CRASH
    return str(FailureKind.INFRASTRUCTURE if lost else failure.kind)


def _ended_early(reached: int, budget: Budget) -> Failure:
    return Failure.without_traceback(
        FailureKind.USER_CODE,
        f"training ended of its own accord after {budget.unit} {reached} of {budget.maximum}",
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
"""How many further attempts each class of failure earns; classes not named here earn none.

A full disk stops the study, and its trials wait until there is room. A lost machine says nothing
about the trial, so it is retried freely; five bound what an error that only looks like one can
cost. A process that died may have been killed by its own trial. User code and divergence fail the
same way again.
"""

MAX_LOSSES = 3
"""Attempts in a row that may end with their driver, no epoch recorded, before the trial fails.

A trial can kill its driver: in process by a segmentation fault, elsewhere where the kernel ends a
whole container for one process's memory. So can a power cut; an attempt that recorded an epoch
shows that the trial is not the cause.
"""


_FIRST = 5
_ALIKE = 3
_WINDOW = 20


def earns_retry(kind: str, earlier: Sequence[str]) -> bool:
    """Whether a trial whose attempt failed gets another one.

    Args:
        kind: Class of the failure.
        earlier: How the attempts before this one ended.
    """
    return list(earlier).count(kind) < RETRIES.get(kind, 0)


def losses(attempts: "Sequence[AttemptRecord]") -> int:
    """Number of newest attempts in a row that ended with their driver and recorded no epoch.

    Args:
        attempts: The trial's, oldest first.
    """
    fruitless = takewhile(lambda a: a.outcome == "lost" and not a.measured, reversed(attempts))
    return sum(1 for _ in fruitless)


def lost_too_often(study: str, number: int) -> Failure:
    """The failure of a trial whose last MAX_LOSSES attempts were lost.

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


def shares(earlier: Sequence[str], parent: Trial | None) -> int:
    """How many times the usual share of the machine an attempt gets: more where memory ran out.

    Args:
        earlier: How the trial's attempts before this one ended.
        parent: The trial that it goes back to, if any.
    """
    times = list(earlier).count("out_of_memory")
    times += parent is not None and parent.reason == "out_of_memory"
    return int(2**times)


def abort_reason(ended: Sequence[Trial]) -> str | None:
    """Why the search should not go on, if so.

    Args:
        ended: Trials that were attempted and have ended since this driver started, in this order.
            Earlier ones do not count: whoever resumes a study that broke off has changed something.
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
    """Says so if trials were attempted and every one of them failed."""
    attempted = [trial for trial in trials if trial.attempts]
    if not attempted or any(trial.state is not TrialState.FAIL for trial in attempted):
        return None
    return f"every one of {len(attempted)} trials failed, the last with: {_message(attempted[-1])}"


def _digest(trial: Trial) -> object:
    return (trial.failure or {}).get("digest")


def _message(trial: Trial) -> str:
    failure = trial.failure or {}
    return f"{failure.get('kind')}: {failure.get('message')}"
