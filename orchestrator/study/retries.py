"""Retries: new trials for failed ones at a user's request, and trials lost with their driver.

A requested retry has its own number and seed, is exempt from deduplication and does not count
against `stop.trials`. A trial that already has a retry gets no second one.
"""

import uuid
from collections.abc import Iterable, Iterator, Sequence

from orchestrator.confirmation.plan import KIND
from orchestrator.ledger import Lease, Ledger, Request
from orchestrator.seeds import derive_seed
from orchestrator.study.retry_policy import MAX_LOSSES, losses, lost_too_often
from orchestrator.trial import Trial, TrialState

RETRY = "retry"
"""Request kind; payload `class`: reason of the trials to retry; answer `added`: uids of the new
trials."""

_RETRYABLE = frozenset(
    {
        "user_code",
        "out_of_memory",
        "timeout",
        "infrastructure",
        "diverged",
    }
)
"""Reasons of trials that began to train; infeasible ones would be infeasible again."""


def retryable_reasons() -> list[str]:
    """Return the reasons of trials that may be retried."""
    return sorted(_RETRYABLE)


def retryable_trials(trials: Sequence[Trial], reason: str) -> list[Trial]:
    """Return the trials that ended for a reason and have no retry yet."""
    retried = {trial.parent for trial in trials if trial.kind == "retry"}
    return [
        trial
        for trial in trials
        if trial.reason == reason
        and trial.kind != KIND
        and trial.attempts
        and trial.state in {TrialState.FAIL, TrialState.PRUNED}
        and trial.uid not in retried
    ]


def answer_request(
    ledger: Ledger, lease: Lease, request: Request, trials: Sequence[Trial], *, seed: int
) -> list[Trial]:
    """Carry out a request and record its answer; repeated after a crash, it adds only the rest.

    Args:
        ledger: The study's ledger.
        lease: Lease on the study.
        request: A request without an answer.
        trials: All trials of the study.
        seed: The study's seed.

    Returns:
        The waiting trials that it added.

    Raises:
        LeaseLostError: Another driver has taken the study over.
    """
    if request.kind == KIND:  # stays open until the confirmation is decided
        return []
    if request.kind != RETRY:
        refusal = {"refused": f"this release does not know {request.kind!r}"}
        ledger.answer(lease, request.id, refusal)
        return []
    reason = str(request.payload["class"])
    added = [
        ledger.add_trial(lease, _retry_of(trial, number, derive_seed(seed, number)))
        for number, trial in enumerate(retryable_trials(trials, reason), start=len(trials))
    ]
    ledger.answer(lease, request.id, {"added": [trial.uid for trial in added]})
    return added


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


def _retry_of(trial: Trial, number: int, seed: int) -> Trial:
    return Trial(
        number=number,
        uid=uuid.uuid4().hex,
        kind="retry",
        parent=trial.uid,
        params=trial.params,
        distributions=trial.distributions,
        candidate=trial.candidate,
        digest=trial.digest,
        seed=seed,
        violations=trial.violations,
        cost=trial.cost,
        describe=trial.describe,
    )
