"""Duplicates: candidates of equal digests, and the end of a space that gives nothing else."""

from collections.abc import Collection, Sequence

from orchestrator.sampling.candidates import Space
from orchestrator.trial import Trial
from search_spaces.candidate import Candidate, Decisions
from search_spaces.task import Task

MAX_DUPLICATES = 20
"""Duplicates in a row after which a space counts as exhausted."""


def digest_of(candidate: Candidate | Decisions, task: Task | None) -> str:
    """Return the digest by which duplicates are found.

    All encodings of a network share one on a task. Decisions of a user's own space, and networks
    that do not fit the task, have the digest of their encoding.
    """
    if task is None:
        return candidate.digest
    try:
        return candidate.network_digest(task)
    except Exception:  # noqa: BLE001 - a user's block may raise anything; screening reports it
        return candidate.digest


def exhausted(trials: Sequence[Trial], space: Space) -> bool:
    """Return whether every candidate was tried, or only duplicates are found.

    Args:
        trials: Trials of the space by number, those of its earlier versions included.
        space: The present space.
    """
    present = [trial for trial in trials if trial.space_version == space.version]
    if tail_length(present, "duplicate") >= MAX_DUPLICATES:
        return True
    size = space.size()
    if len(trials) < size:
        return False
    return len({tuple(sorted(t.params.items())) for t in trials}) >= size


def tail_length(trials: Collection[Trial], reason: str) -> int:
    """Return how many of the newest trials in a row have this reason."""
    count = 0
    for trial in reversed(tuple(trials)):
        if trial.reason != reason:
            break
        count += 1
    return count
