"""Whether the checkpoints that a study still needs are there: those of its best and open trials.

Looks at manifests and sizes, not at every byte: whoever loads a checkpoint proves it.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from orchestrator.objective import Objective
from orchestrator.study.retention import best_of
from orchestrator.trial import Trial
from workers.measurement import CheckpointRef
from workers.storage import Folder

_MANIFEST, _LARGEST = "manifest.json", 64 * 1024


def bad_checkpoints(
    trials: Sequence[Trial], objectives: Sequence[Objective], folder: Folder
) -> Iterator[tuple[Trial, str, str]]:
    """Yield what is wrong with the newest checkpoint of each trial that keeps one.

    Args:
        trials: All of the study's.
        objectives: The study's.
        folder: Of the study's checkpoints.

    Yields:
        The trial, the checkpoint's name, and what was found in its place.
    """
    kept = [*best_of(trials, objectives), *(t for t in trials if not t.state.is_terminal)]
    for trial in sorted(kept, key=lambda trial: trial.number):
        saved = [seen.checkpoint for seen in trial.measurements if seen.checkpoint]
        if saved:
            name = saved[-1].path.rpartition("/")[2]
            if (found := _found(saved[-1], folder / trial.uid / name)) is not None:
                yield trial, name, found


def _found(reference: CheckpointRef, place: Folder) -> str | None:
    """Return what is there instead of a checkpoint; None where it is as recorded."""
    try:
        text = _read(place, _MANIFEST)
        if hashlib.sha256(text).hexdigest() != reference.manifest_sha256:
            return f"another manifest in {place}"
        files = json.loads(text)["files"]
        if isinstance(place, Path):
            sizes = {name: (place / name).stat().st_size for name in files}
            changed = [name for name in files if sizes[name] != files[name]["bytes"]]
            return f"{changed[0]} of another size in {place}" if changed else None
    except FileNotFoundError as missing:
        return f"nothing at {missing.filename or place}"
    except OSError as error:
        return f"what cannot be read at {place}: {error}"
    return None


def _read(place: Folder, name: str) -> bytes:
    if isinstance(place, Path):
        with (place / name).open("rb") as file:
            return file.read(_LARGEST + 1)
    return place.read(name, _LARGEST)
