"""Trials whose attempts were lost with their driver: fail those that were lost too often."""

from collections.abc import Iterable, Iterator

from orchestrator.ledger import Lease, Ledger
from orchestrator.study.retry_policy import MAX_LOSSES, losses, lost_too_often
from orchestrator.trial import Trial, TrialState


def settle_losses(
    ledger: Ledger, lease: Lease, study: str, waiting: Iterable[Trial]
) -> Iterator[tuple[Trial, int]]:
    """Fail waiting trials whose attempts were lost too often with their driver.

    Args:
        ledger: The study's ledger.
        lease: Lease on the study.
        study: The study's name.
        waiting: The waiting trials.

    Yields:
        Each trial that was lost, in its new version, and its number of losses in a row.

    Raises:
        LeaseLostError: Another driver has taken the study over.
    """
    for trial in waiting:
        number = losses(ledger.attempts(trial.uid)) if trial.attempts else 0
        if number >= MAX_LOSSES:
            failed = ledger.finish(
                lease,
                trial.uid,
                key=None,
                state=TrialState.FAIL,
                reason="infrastructure",
                violations=trial.violations,
                failure=lost_too_often(study, trial.number).to_dict(),
            )
            yield failed, number
        elif number:
            yield trial, number
