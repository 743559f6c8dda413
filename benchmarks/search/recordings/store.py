"""Recorded trainings of one data set each, in compressed JSON lines that later runs continue."""

import json
import lzma
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

FOLDER = Path(__file__).parents[1] / "results" / "recordings"
"""Folder of the recordings of this project."""
VALUE = "val_accuracy"
"""Metric by which candidates are compared."""
COMPLETE = "complete"


@dataclass(frozen=True, kw_only=True)
class Recording:
    """One candidate, trained to the top of the budget unless it failed."""

    number: int
    """Number within the data set, from 0; the first one is the default."""
    kind: str
    """Origin of the candidate: `default`, `uniform`, `prior` or `mutation`."""
    parent: int | None
    """Number of the mutated recording; None for the other kinds."""
    space: str
    """Name and version of the space."""
    params: Mapping[str, Any]
    """Decisions by name."""
    seed: int
    """Seed of the training."""
    flops: int
    parameters: int
    metrics: Mapping[str, Sequence[float]]
    """Values after each epoch, by name of the metric."""
    cpu_s: Sequence[float]
    """CPU seconds of the training thread up to the end of each epoch."""
    outcome: str = COMPLETE
    """`complete`, or the class of the error that ended the training."""
    origin: str = "record"
    """Program that made it."""

    @property
    def final(self) -> float:
        """Last value of a complete training; 0 for a failed one."""
        return self.metrics[VALUE][-1] if self.outcome == COMPLETE else 0.0


def read(name: str, folder: Path = FOLDER) -> list[Recording]:
    """Return the recordings of a data set by number; none if there is no file."""
    path = _path(name, folder)
    if not path.exists():
        return []
    with lzma.open(path, "rt") as lines:
        return [Recording(**json.loads(line)) for line in lines]


def add(name: str, recordings: Iterable[Recording], folder: Path = FOLDER) -> None:
    """Add recordings to their file; several processes may do so at the same time."""
    folder.mkdir(parents=True, exist_ok=True)
    path = _path(name, folder)
    with FileLock(f"{path}.lock"):
        known = {each.number: each for each in (*read(name, folder), *recordings)}
        part = path.with_suffix(".part")
        with lzma.open(part, "wt") as file:
            file.writelines(
                json.dumps(asdict(known[number]), separators=(",", ":")) + "\n"
                for number in sorted(known)
            )
        # At once: a killed process loses its own recording only.
        part.replace(path)


def _path(name: str, folder: Path) -> Path:
    return folder / f"{name}.jsonl.xz"
