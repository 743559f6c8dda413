"""What a worker tells while it trains: measurements, and signs of life between them.

Knows no ledger and no tracker: a measurement is a value, whoever keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRef:
    """Where a verified checkpoint lies, and what its bytes must hash to."""

    path: str
    """The checkpoint's folder."""
    manifest_sha256: str
    """SHA-256 of the manifest file, which in turn holds one for each file."""
    bytes: int
    """Size of all its files together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was seen of a trial at one fidelity."""

    fidelity: int
    """Epochs trained when it was taken, from 1."""
    metrics: Mapping[str, float]
    """Values by name: `train_*` and `val_*`; a user's own may be NaN or infinite."""
    elapsed_s: float
    """Training time of this attempt so far, evaluation included."""
    checkpoint: CheckpointRef | None = None
    """The state after this epoch, if it was kept."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data that crosses a process boundary; `from_dict` undoes it."""
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
        """The measurement that `to_dict` wrote."""
        kept = data["checkpoint"]
        return cls(
            fidelity=data["fidelity"],
            metrics=data["metrics"],
            elapsed_s=data["elapsed_s"],
            checkpoint=None if kept is None else CheckpointRef(**kept),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A sign of life inside an epoch: cheap, never recorded."""

    epoch: int
    """The epoch under way, from 1."""
    done: float
    """Share of it that is trained, 0 to 1."""
