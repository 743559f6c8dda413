"""Retries that a user asks for: new trials that go back to failed ones, which never change.

A retry has its own number and seed, is exempt from deduplication and does not count against
`stop.trials`. Asking again adds nothing: a trial that has a retry already is left out.
"""

import uuid
from collections.abc import Sequence

from orchestrator.ledger import Lease, Ledger, Request
from orchestrator.sampling.optuna_sampler import derive_seed
from orchestrator.trial import Trial, TrialState

_RETRIED = frozenset(
    {
        "user_code",
        "out_of_memory",
        "timeout",
        "infrastructure",
        "diverged",
    }
)
"""Reasons of trials that began to train; what was screened would be screened again."""


def retryable_reasons() -> list[str]:
    """What may be retried, by the trials' reason."""
    return sorted(_RETRIED)


def retryable_trials(trials: Sequence[Trial], reason: str) -> list[Trial]:
    """The trials that ended for this reason and have no retry yet."""
    retried = {trial.parent for trial in trials if trial.kind == "retry"}
    return [
        trial
        for trial in trials
        if trial.reason == reason
        and trial.attempts
        and trial.state in {TrialState.FAIL, TrialState.PRUNED}
        and trial.uid not in retried
    ]


def add_retries(
    ledger: Ledger, lease: Lease, trials: Sequence[Trial], reason: str, *, seed: int
) -> list[Trial]:
    """Add a waiting trial for each candidate.

    Args:
        ledger: Where they are added.
        lease: The study's.
        trials: All trials of the study.
        reason: Which of them get another chance.
        seed: The study's.

    Returns:
        The new trials; the next driver starts them.

    Raises:
        LeaseLostError: Another driver has the study.
    """
    return [
        ledger.add_trial(lease, _again(trial, number, derive_seed(seed, number)))
        for number, trial in enumerate(retryable_trials(trials, reason), start=len(trials))
    ]


def _again(trial: Trial, number: int, seed: int) -> Trial:
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


RETRY = "retry"
"""Payload `class`: which failed trials get another chance. Answer `added`: uids of new ones."""


def answer_request(
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
