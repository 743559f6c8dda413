"""Requested retries: new trials for failed ones.

A retry has its own number and seed, is exempt from deduplication and does not count against
`stop.trials`. A trial that already has a retry gets no second one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.confirmation.plan import KIND
from orchestrator.ledger import Effect
from orchestrator.seeds import derive_seed
from orchestrator.study.requests.view import StudyView
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
    retried = {trial.parent for trial in trials if trial.kind == RETRY}
    return [
        trial
        for trial in trials
        if trial.reason == reason
        and trial.kind != KIND
        and trial.attempts
        and trial.state in {TrialState.FAIL, TrialState.PRUNED}
        and trial.uid not in retried
    ]


def retry(study: StudyView, payload: Mapping[str, Any]) -> Effect:
    """Add a retry of each failed trial of one class."""
    seed, trials = study.config.seed, study.trials
    found = retryable_trials(trials, str(payload["class"]))
    added = [
        trial.successor(RETRY, number=number, seed=derive_seed(seed, number))
        for number, trial in enumerate(found, start=len(trials))
    ]
    return Effect(answer={"added": [trial.uid for trial in added]}, added=added)
