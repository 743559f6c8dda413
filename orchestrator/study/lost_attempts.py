"""Losses: what becomes of trials that were running when a driver before this one died."""

from collections.abc import Iterable, Iterator

from orchestrator.ledger import Lease, Ledger
from orchestrator.study.outcome import MAX_LOSSES, losses, lost_too_often
from orchestrator.trial import Trial, TrialState


def settle_losses(
    ledger: Ledger, lease: Lease, study: str, waiting: Iterable[Trial]
) -> Iterator[tuple[Trial, int]]:
    """Fail waiting trials that were lost too often.

    Args:
        ledger: Where it is recorded.
        lease: The study's.
        study: The study's name.
        waiting: The trials that wait.

    Yields:
        Each trial that was lost, as it is now, and how many times in a row.

    Raises:
        LeaseLostError: Another driver has the study.
    """
    for trial in waiting:
        number = losses(ledger.attempts(trial.uid)) if trial.attempts else 0
        if number >= MAX_LOSSES:
            yield _fail(ledger, lease, study, trial), number
        elif number:
            yield trial, number


def _fail(ledger: Ledger, lease: Lease, study: str, trial: Trial) -> Trial:
    failure = lost_too_often(study, trial.number)
    return ledger.finish(
        lease,
        trial.uid,
        key=None,
        state=TrialState.FAIL,
        reason=str(failure.kind),
        violations=trial.violations,
        failure=failure.to_dict(),
    )
