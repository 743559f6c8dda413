"""What the ledger takes and gives, as values that know no database."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """One study as the ledger has it."""

    id: int
    name: str
    config_json: str
    """The configuration in canonical JSON; a start changes the GPUs of a trial at most."""
    space_name: str
    space_version: str
    data_digest: str
    """Digest of the data set's bytes and split."""
    code_digest: str | None
    """SHA-256 over the user's own Python; None where there is none."""
    created: float
    """Seconds since the epoch."""
    state: str
    """`running`, `finished`, `interrupted` or `broken`."""
    spent_s: float
    """Driver time over all its runs, for `stop.hours`."""
    teacher_sha256: str | None = None
    """First 16 hexadecimal digits of the SHA-256 of the teacher's manifest; None without one."""

    @property
    def space(self) -> str:
        """Name and version of the space, and the teacher if there is one, as people see them."""
        teacher = f"+teacher.{self.teacher_sha256}" if self.teacher_sha256 else ""
        return f"{self.space_name} {self.space_version}{teacher}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """One execution of a trial."""

    number: int
    """Counts executions of the trial, from 1."""
    generation: int
    """Lease generation of the driver that started it."""
    node: str | None
    pid: int | None
    started: float
    ended: float | None
    outcome: str | None
    """`complete`, `pruned`, `fail`, what `give_back` was told, or `lost` with its driver."""
    failure: Mapping[str, Any] | None
    """The classified failure, if it ended with one."""
    measured: int
    """Epochs recorded from it; an epoch that an earlier attempt had recorded does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened to a study; within a study, ids rise in order of commit."""

    id: int
    kind: str
    payload: Mapping[str, Any]
    recorded: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """One operation that takes a trial into the model registry under an alias."""

    operation: str
    """Names it for good: the same trial, model and alias are the same operation."""
    study_id: int | None
    """None once the study was deleted."""
    trial_uid: str | None
    """None once the study was deleted."""
    model: str
    alias: str
    version: int | None
    """The registered version; None before there is one."""
    state: str
    """`begun`, `registered`, `verified`, `tested`, `moving`, `done` or `refused`."""
    expected_version: int | None
    """Where the alias pointed when it was moved, if anywhere."""
    detail: Mapping[str, Any]
    """Digests, scores and reasons, as the promoter keeps them."""
    recorded: float
    """Seconds since the epoch."""
    updated: float
    """Seconds since the epoch, of the last step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What somebody asks of a study's driver."""

    id: int
    kind: str
    payload: Mapping[str, Any]
