"""Records of the ledger, independent of the database."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.trial import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One study."""

    id: int
    name: str
    config_json: str
    """Configuration in canonical JSON, with all changes to the study."""
    space_name: str
    space_version: str
    data_digest: str
    """Digest of the data set's bytes and split."""
    code_digest: str | None
    """SHA-256 over the user's own Python; None without any."""
    created: float
    """Seconds since the epoch."""
    state: str
    """`running`, `finished`, `interrupted` or `broken` (aborted)."""
    spent_s: float
    """Driver time over all runs, in seconds; limited by `stop.hours`."""
    teacher_sha256: str | None = None
    """First 16 hexadecimal digits of the SHA-256 of the teacher's manifest; None without one."""

    @property
    def space(self) -> str:
        """Return name and version of the space, and the teacher if there is one, for display."""
        teacher = f"+teacher.{self.teacher_sha256}" if self.teacher_sha256 else ""
        return f"{self.space_name} {self.space_version}{teacher}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One attempt to train a trial."""

    number: int
    """Number of the attempt in its trial, from 1."""
    generation: int
    """Lease generation of the driver that started it."""
    node: str | None
    pid: int | None
    started: float
    ended: float | None
    outcome: str | None
    """`complete`, `pruned`, `fail`, `interrupted`, `lost` with its driver, or a failure's class."""
    failure: Mapping[str, Any] | None
    """Classified failure, if any."""
    measured: int
    """Number of measurements recorded from it, without epochs that an earlier attempt measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of a study; within a study, ids rise in order of commit."""

    id: int
    kind: str
    payload: Mapping[str, Any]
    recorded: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One promotion of a trial to the model registry under an alias."""

    operation: str
    """Permanent id: the same trial, model and alias are the same operation."""
    study_id: int | None
    """None once the study was deleted."""
    trial_uid: str | None
    """None once the study was deleted."""
    model: str
    alias: str
    version: int | None
    """Registered version; None before registration."""
    state: str
    """`begun`, `registered`, `verified`, `tested`, `moving`, `done` or `refused`."""
    expected_version: int | None
    """Version of the alias before its move, if any."""
    detail: Mapping[str, Any]
    """Digests, scores and reasons of the promoter."""
    recorded: float
    """Seconds since the epoch."""
    updated: float
    """Time of the last step, in seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request to a study's driver."""

    id: int
    kind: str
    payload: Mapping[str, Any]
    recorded: float
    """Seconds since the epoch."""
    answered: float | None
    """Seconds since the epoch; None while it is open."""
    answer: Mapping[str, Any] | None
    """None while it is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Answer to a request with all that it changes, recorded in one transaction."""

    answer: Mapping[str, Any]
    changes: Mapping[str, str | None] = field(default_factory=dict)
    """New values of the study's row, by column."""
    added: Sequence[Trial] = ()
    """New trials, under the study's next numbers."""
    ended: Sequence[str] = ()
    """uids of open trials that end as PRUNED by their operator, running ones too."""
