"""What follows from failures: another attempt, the end of a trial, or the end of the search.

Pure functions of what was recorded; open no ledger and know no engine.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from orchestrator.trial import Trial, TrialState
from workers.failures import Failure, FailureKind

if TYPE_CHECKING:
    from orchestrator.ledger import Attempt  # `status` reads this module without a ledger

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


def losses(attempts: "Sequence[Attempt]") -> int:
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


def breaks_off(ended: Sequence[Trial]) -> str | None:
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
