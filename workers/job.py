"""All that a worker needs to train one attempt of a trial, as plain data.

Knows no queue and no cluster: whoever holds a job can run it anywhere.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from workers.budget import Budget
from workers.data.spec import DataSpec
from workers.measurement import CheckpointRef
from workers.storage import Storage, storage_at


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptKey:
    """Names one execution of a trial; only the newest may write."""

    trial_uid: str
    """The trial's uuid4 as 32 hexadecimal digits."""
    number: int
    """Counts executions of the trial, from 1."""
    fence: str
    """Token drawn when the attempt started; a write must show it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRef:
    """Names a promoted network that candidates may learn from."""

    path: str
    """Path or fsspec URL of the folder of its weights, description and manifest."""
    sha256: str
    """SHA-256 of the manifest; a worker loads nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One attempt at one trial."""

    key: AttemptKey
    """Whose attempt it is."""
    trial_number: int
    """The trial's number in its study, for people."""
    candidate: Mapping[str, Any]
    """The candidate's JSON form."""
    data: DataSpec
    """What to train on."""
    budget: Budget
    """How far to train."""
    seed: int
    """Seed of everything random in the trial."""
    train: str | None = None
    """The user's generator as `file.py:name`; None trains the candidate's own network."""
    space: str | None = None
    """The user's space as `file.py:name`, whose file may register blocks; None for ready ones."""
    checkpoint_dir: str | None = None
    """Path or fsspec URL under which this trial's checkpoints go; None keeps none."""
    log_path: str | None = None
    """The trial's log; None keeps none."""
    teacher: TeacherRef | None = None
    """Whom loss terms that distil learn from; None where nobody teaches."""
    resume_from: tuple[CheckpointRef, ...] = ()
    """Checkpoints of earlier attempts, newest first; the first whole one is used."""
    threads: int = 1
    """CPU threads that the worker may use."""
    device: str = "cpu"
    """Torch device type: `cpu` or `cuda`."""
    shares: int = 1
    """How many times the usual share of the machine it is placed with; 2 after memory ran out."""
    gpu_share: float = 0.0
    """Share of one GPU's memory that the worker may use, 0 to 1."""

    @property
    def checkpoints(self) -> Storage | None:
        """Where this trial's checkpoints go, opened."""
        return None if self.checkpoint_dir is None else storage_at(self.checkpoint_dir)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that crosses a process boundary; `from_dict` undoes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The job that `to_dict` wrote."""
        return cls(
            **{
                **data,
                "key": AttemptKey(**data["key"]),
                "data": DataSpec(**data["data"]),
                "budget": Budget(**data["budget"]),
                "teacher": TeacherRef(**data["teacher"]) if data["teacher"] else None,
                "resume_from": tuple(CheckpointRef(**ref) for ref in data["resume_from"]),
            }
        )
