"""Retry policy: how often a failed or lost attempt is followed by another one."""

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from orchestrator.trial import Trial
from workers.failures import Failure, FailureKind

if TYPE_CHECKING:
    from orchestrator.ledger import AttemptRecord  # `status` reads this module without a ledger

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
