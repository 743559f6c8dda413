"""Requests: what a user asks of a study that another process may be driving.

Only the holder of the lease writes trials. Whoever else wants some asks; the driver answers within
a beat, and a command that finds nobody driving takes the lease and answers itself.
"""

from collections.abc import Sequence

from orchestrator.ledger import Lease, Ledger, Request
from orchestrator.study.retries import add_retries
from orchestrator.trial import Trial

RETRY = "retry"
"""Payload `class`: which failed trials get another chance. Answer `added`: uids of new ones."""


def answer(
    ledger: Ledger, lease: Lease, asked: Request, trials: Sequence[Trial], *, seed: int
) -> list[Trial]:
    """Do what was asked, and say so; done again after a crash in the middle, it adds the rest.

    Args:
        ledger: Where it was asked.
        lease: The study's.
        asked: A request that has no answer.
        trials: All trials of the study.
        seed: The study's.

    Returns:
        The trials that it added, which wait.
    """
    if asked.kind != RETRY:
        ledger.answer(lease, asked.id, {"refused": f"this release does not know {asked.kind!r}"})
        return []
    added = add_retries(ledger, lease, trials, str(asked.payload["class"]), seed=seed)
    ledger.answer(lease, asked.id, {"added": [trial.uid for trial in added]})
    return added
