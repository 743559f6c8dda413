"""Training job: everything that a worker needs to train one attempt of a trial, as plain data."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from workers.budget import Budget
from workers.data.spec import DataSpec
from workers.measurement import CheckpointRef
from workers.storage import Storage, storage_at


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptKey:
    """Identity of one execution of a trial; only the newest may write."""

    trial_uid: str
    """UUID4 of the trial as 32 hexadecimal digits."""
    number: int
    """Number of the execution, from 1."""
    fence: str
    """Random fencing token of the attempt; every write must present it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherRef:
    """Reference to a promoted network that candidates distil from."""

    path: str
    """Path or fsspec URL of the folder of its weights, description and manifest."""
    sha256: str
    """SHA-256 of the manifest; a worker loads nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BestEpoch:
    """Rule of the epoch whose checkpoint a trial keeps besides the newest ones."""

    metric: str
    """Metric by which epochs are compared."""
    direction: Literal["maximize", "minimize"]
    """Direction of improvement."""
    earlier: CheckpointRef | None = None
    """Checkpoint of the best epoch of earlier attempts, which must stay; None without one."""

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """Return an epoch's score, more being better; None where it was not measured."""
        value = metrics.get(self.metric)
        if value is None or not math.isfinite(value):
            return None
        return value if self.direction == "maximize" else -value


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One attempt at one trial."""

    key: AttemptKey
    """Identity of the attempt."""
    trial_number: int
    """Number of the trial in its study, for messages."""
    candidate: Mapping[str, Any]
    """Candidate in its JSON form."""
    data: DataSpec
    """Data to train on."""
    budget: Budget
    """Fidelity to train to."""
    seed: int
    """Random seed of the trial."""
    train: str | None = None
    """User's generator as `file.py:name`; None trains the candidate's own network."""
    space: str | None = None
    """User's space as `file.py:name`, whose file may register blocks; None for built-in ones."""
    checkpoint_dir: str | None = None
    """Path or fsspec URL of the folder of this trial's checkpoints; None keeps none."""
    earlier_dirs: tuple[str, ...] = ()
    """The same of the trials that this one continues, newest first; only read."""
    log_path: str | None = None
    """Path of the trial's log; None keeps none."""
    teacher: TeacherRef | None = None
    """Teacher of the loss terms that distil; None without one."""
    resume_from: tuple[CheckpointRef, ...] = ()
    """Checkpoints of earlier attempts, newest first; the first valid one is used."""
    best_epoch: BestEpoch | None = None
    """Epoch whose checkpoint is kept besides the newest ones; None keeps the newest ones only."""
    threads: int = 1
    """Number of CPU threads."""
    device: str = "cpu"
    """Torch device type: `cpu` or `cuda`."""
    shares: int = 1
    """Multiple of the usual resources that it is placed with; 2 after running out of memory."""
    gpu_share: float = 0.0
    """Fraction of one GPU's memory that the worker may use, 0 to 1."""

    @property
    def checkpoints(self) -> Storage | None:
        """Storage of this trial's checkpoints; None keeps none."""
        return None if self.checkpoint_dir is None else storage_at(self.checkpoint_dir)

    @property
    def readable_checkpoints(self) -> tuple[Storage, ...]:
        """Folders of the checkpoints that it may resume from."""
        own = () if self.checkpoints is None else (self.checkpoints,)
        return (*own, *map(storage_at, self.earlier_dirs))

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that crosses a process boundary; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the job that `to_dict` wrote."""
        return cls(
            **{
                **data,
                "key": AttemptKey(**data["key"]),
                "data": DataSpec(**data["data"]),
                "budget": Budget(**data["budget"]),
                "teacher": TeacherRef(**data["teacher"]) if data["teacher"] else None,
                "earlier_dirs": tuple(data["earlier_dirs"]),
                "resume_from": tuple(CheckpointRef(**ref) for ref in data["resume_from"]),
                "best_epoch": _best_epoch(data["best_epoch"]),
            }
        )


def _best_epoch(data: Mapping[str, Any] | None) -> BestEpoch | None:
    if data is None:
        return None
    earlier = data["earlier"]
    return BestEpoch(**{**data, "earlier": CheckpointRef(**earlier) if earlier else None})
