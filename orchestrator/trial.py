"""Trials: the record of one candidate, and the only moves its state may make."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from workers.measurement import Measurement

REUSED = "warm_start"
"""Reason of a complete trial whose result is that of its parent, in an earlier study."""


class TrialState(StrEnum):
    """Optuna's five states."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def is_terminal(self) -> bool:
        """Whether a trial in this state never changes again."""
        return self in {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}


LEGAL_TRANSITIONS: Mapping[TrialState, frozenset[TrialState]] = {
    TrialState.WAITING: frozenset({TrialState.RUNNING, TrialState.PRUNED, TrialState.FAIL}),
    TrialState.RUNNING: frozenset(
        {TrialState.WAITING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}
    ),
    TrialState.COMPLETE: frozenset(),
    TrialState.PRUNED: frozenset(),
    TrialState.FAIL: frozenset(),
}
"""Which state may follow which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial as the ledger has it."""

    number: int
    """Dense, from 0, in its study."""
    uid: str
    """uuid4 as 32 hexadecimal digits; names the trial everywhere."""
    kind: str
    """`search`, `continue`, `retry`, `confirm` or `replay`."""
    parent: str | None
    """uid of the trial this one goes back to."""
    params: Mapping[str, Any]
    """What was decided, by path."""
    distributions: Mapping[str, str]
    """Optuna's JSON of each decision's distribution, by path."""
    candidate: Mapping[str, Any]
    """The candidate's JSON form."""
    digest: str
    """Digest of the canonical candidate."""
    state: TrialState
    reason: str | None
    """Why it ended as it did: `rung`, `infeasible`, `diverged`, `duplicate`, `user_code`, ..."""
    values: tuple[float, ...] | None
    """Objective values in the study's order; only when COMPLETE."""
    violations: Mapping[str, float]
    """By constraint; at most 0 is feasible."""
    seed: int
    attempts: int
    """How many attempts were started."""
    failure: Mapping[str, Any] | None
    """The classified failure of the last attempt, if it failed."""
    sampler_attrs: Mapping[str, Any]
    """What the sampler keeps with the trial (NSGA's generation)."""
    created: float
    """Seconds since the epoch."""
    started: float | None
    """When the first attempt began."""
    ended: float | None
    measurements: tuple[Measurement, ...] = ()
    """By fidelity, rising."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """What screening counted before any training: `parameters`, `flops`, `activation_bytes`."""
    describe: str = ""
    """The candidate in one line, for people."""

    @property
    def reached(self) -> int:
        """The fidelity measured last; 0 before the first."""
        return self.measurements[-1].fidelity if self.measurements else 0


def summarize_failure(failure: Mapping[str, Any]) -> str:
    """Its class, its first line, where it was raised, and the beginning of its digest."""
    message = str(failure.get("message", "")).strip().partition("\n")[0]
    line = f"{failure.get('kind', '')}: {message}".strip(": ")
    where, digest = failure.get("where"), str(failure.get("digest", ""))[:8]
    marks = ", ".join(mark for mark in (where, digest) if mark)
    return f"{line} ({marks})" if marks else line
