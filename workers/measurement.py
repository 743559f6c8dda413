"""Results that a worker reports while it trains: measurements, and progress between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRef:
    """Reference to a checkpoint: its folder and the hash of its manifest."""

    path: str
    """Folder of the checkpoint."""
    manifest_sha256: str
    """SHA-256 of the manifest, which in turn has one for each file."""
    bytes: int
    """Size of all its files in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Metrics of a trial at one fidelity."""

    fidelity: int
    """Number of epochs trained, from 1."""
    metrics: Mapping[str, float]
    """Metrics by name: `train_*` and `val_*`; a user's own may be NaN or infinite."""
    elapsed_s: float
    """Training time of this attempt so far in seconds, evaluation included."""
    checkpoint: CheckpointRef | None = None
    """Checkpoint after this epoch; None if none was saved."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that crosses a process boundary; `from_dict` is the inverse."""
        kept = self.checkpoint
        return {
            "fidelity": self.fidelity,
            "metrics": dict(self.metrics),
            "elapsed_s": self.elapsed_s,
            "checkpoint": None
            if kept is None
            else {"path": kept.path, "manifest_sha256": kept.manifest_sha256, "bytes": kept.bytes},
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the measurement that `to_dict` wrote."""
        kept = data["checkpoint"]
        return cls(
            fidelity=data["fidelity"],
            metrics=data["metrics"],
            elapsed_s=data["elapsed_s"],
            checkpoint=None if kept is None else CheckpointRef(**kept),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Heartbeat within an epoch: cheap, never recorded."""

    epoch: int
    """Current epoch, from 1."""
    done: float
    """Fraction of the epoch that is trained, 0 to 1."""
