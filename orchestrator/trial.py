"""Trial: the record of one candidate, its states and the legal transitions between them."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from workers.measurement import Measurement

REUSED = "warm_start"
"""Reason of a complete trial whose result is reused from its parent in an earlier study."""

OPERATOR = "operator"
"""Reason of a pruned trial that a user has stopped."""

REQUEST = "request"
"""Key of `sampler_attrs` of a trial whose design a user has given: id of the request."""

CHOICE = "choice"
"""Key of `sampler_attrs` of a trial that tries a choice which an edit has added: its decision."""

CONTINUE = "continue"
"""Kind of a trial that continues an ended one from its checkpoint."""

PAUSED = "paused"
"""Outcome of an attempt that a rung ended without the end of its trial."""


class TrialState(StrEnum):
    """Optuna's five trial states."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def is_terminal(self) -> bool:
        """True if a trial in this state never changes again."""
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
"""Legal next states, by state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One trial, as the ledger has it.

    A new one is WAITING, or terminal if it needs no worker; the ledger sets its times.

    Examples:
        >>> Trial(number=0, uid="0" * 32, params={},
        ...       distributions={}, candidate={}, digest="d", seed=0)
    """

    number: int
    """Consecutive in its study, from 0."""
    uid: str
    """uuid4 as 32 hexadecimal digits; identifies the trial everywhere."""
    kind: str = "search"
    """`search`, `continue`, `retry`, `confirm` or `replay`."""
    parent: str | None = None
    """uid of the trial that it continues, retries, confirms, replays or copies."""
    params: Mapping[str, Any]
    """Parameter values, by path."""
    distributions: Mapping[str, str]
    """Optuna's JSON of each parameter's distribution, by path."""
    candidate: Mapping[str, Any]
    """The candidate's JSON form."""
    digest: str
    """Digest of the canonical candidate."""
    space_version: str | None = None
    """Version of the space that it was sampled from; the ledger sets it in new trials. None in
    trials of earlier releases, whose studies had only one."""
    seed: int
    state: TrialState = TrialState.WAITING
    reason: str | None = None
    """Reason of a terminal state: `rung`, `infeasible`, `diverged`, `user_code`, ..."""
    values: tuple[float, ...] | None = None
    """Objective values in the study's order; only when COMPLETE."""
    violations: Mapping[str, float] = field(default_factory=dict)
    """By constraint; at most 0 is feasible."""
    attempts: int = 0
    """Number of attempts started."""
    left_at_rung: bool = False
    """True if a rung paused its last attempt, also once the trial has ended."""
    outside: bool = False
    """True for a sampler whose space does not contain it; not stored."""
    failure: Mapping[str, Any] | None = None
    """Classified failure of the last attempt, or of building the candidate."""
    sampler_attrs: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the sampler (NSGA's generation), of a confirmation (its seed's index), or the
    request that gave the design."""
    created: float = 0.0
    """Seconds since the epoch."""
    started: float | None = None
    """Start of the first attempt, in seconds since the epoch."""
    ended: float | None = None
    """Seconds since the epoch; None before a terminal state."""
    measurements: tuple[Measurement, ...] = ()
    """By rising fidelity; those of a continuation begin with its parent's."""
    inherited: int = 0
    """Number of its first measurements that its parent measured."""
    cost: Mapping[str, float] = field(default_factory=dict)
    """Measured before any training: `parameters`, `flops`, `activation_bytes`."""
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Output shape of each part of the network, by name; kept in the trial's event, not its row."""
    describe: str = ""
    """Candidate in one line, for display."""

    @property
    def reached(self) -> int:
        """Last measured fidelity; 0 before the first measurement."""
        return self.measurements[-1].fidelity if self.measurements else 0

    @property
    def paused(self) -> bool:
        """True while it waits because a rung did not promote it."""
        return self.state is TrialState.WAITING and self.left_at_rung

    @property
    def own_measurements(self) -> tuple[Measurement, ...]:
        """Measurements without those of its parent."""
        return self.measurements[self.inherited :]

    def successor(
        self,
        kind: str,
        *,
        number: int,
        seed: int,
        sampler_attrs: Mapping[str, Any] | None = None,
    ) -> "Trial":
        """Return a new trial of the same candidate, whose parent is this one.

        Args:
            kind: `continue`, `retry` or `confirm`.
            number: The study's next number.
            seed: Seed of its training.
            sampler_attrs: Attributes that it has of its own; None for none.
        """
        return Trial(
            number=number,
            uid=uuid.uuid4().hex,
            kind=kind,
            parent=self.uid,
            params=self.params,
            distributions=self.distributions,
            candidate=self.candidate,
            digest=self.digest,
            space_version=self.space_version,
            seed=seed,
            sampler_attrs=sampler_attrs or {},
            violations=self.violations,
            cost=self.cost,
            describe=self.describe,
        )

    def after(self, parent: "Trial") -> "Trial":
        """Return a continuation with the curve of its parent before its own."""
        first = self.measurements[0].fidelity if self.measurements else parent.reached + 1
        before = tuple(seen for seen in parent.measurements if seen.fidelity < first)
        return replace(self, measurements=(*before, *self.measurements), inherited=len(before))

    def measured(self, measurement: Measurement) -> "Trial":
        """Return the trial with another measurement, which replaces inherited ones after it."""
        kept = tuple(seen for seen in self.measurements if seen.fidelity < measurement.fidelity)
        inherited = min(self.inherited, len(kept))
        return replace(self, measurements=(*kept, measurement), inherited=inherited)


def newest_continuations(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials, with those that were continued replaced by their newest continuation."""
    known = list(trials)
    continued_by = {trial.parent: trial for trial in known if trial.kind == CONTINUE}
    newest = [trial for trial in known if trial.kind != CONTINUE]
    for place in range(len(newest)):
        while newest[place].uid in continued_by:
            newest[place] = continued_by[newest[place].uid]
    return newest


def known_numbers(trials: Sequence[Trial]) -> str:
    """Return the numbers of a study's trials, for messages."""
    return f"0 to {len(trials) - 1}" if trials else "none yet"


def summarize_failure(failure: Mapping[str, Any]) -> str:
    """Return a failure in one line: class, message, location and start of the digest."""
    message = str(failure.get("message", "")).strip().partition("\n")[0]
    line = f"{failure.get('kind', '')}: {message}".strip(": ")
    where, digest = failure.get("where"), str(failure.get("digest", ""))[:8]
    marks = ", ".join(mark for mark in (where, digest) if mark)
    return f"{line} ({marks})" if marks else line
