"""Checkpoints of a training: written whole or not at all, loaded only after their hashes match.

A checkpoint is a folder of tensors, JSON state and a manifest (`workers/manifest.py`). Nothing is
ever unpickled.
"""

import json
import secrets
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from search_spaces.errors import ArchscoutError
from workers import manifest
from workers.measurement import CheckpointRef
from workers.storage import LocalFolder, Storage

TENSORS, STATE = "tensors.safetensors", "state.json"


class CheckpointError(ArchscoutError):
    """A checkpoint that must not be loaded; the message names it and the reason."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A training state between two epochs."""

    epoch: int
    """Number of epochs trained."""
    tensors: Mapping[str, Tensor]
    """Weights and optimizer state, by name."""
    state: Mapping[str, Any]
    """Everything else, as JSON values."""


def save(folder: Storage, checkpoint: Checkpoint) -> CheckpointRef:
    """Write a checkpoint into a new folder under `folder`.

    A crash leaves it whole, or without its name or its manifest. Folders on a disk are readable by
    their owner alone.

    Raises:
        OSError: The disk or store is full or fails; nothing is left under the checkpoint's name.
    """
    # The random suffix keeps an epoch that is measured a second time from replacing the first,
    # which the ledger may already refer to.
    name = f"epoch-{checkpoint.epoch:05d}-{secrets.token_hex(4)}"
    files = {
        TENSORS: safetensors.torch.save(dict(checkpoint.tensors)),
        STATE: json.dumps(checkpoint.state, sort_keys=True, allow_nan=False).encode(),
    }
    files[manifest.NAME] = manifest.encode(files.items(), epoch=checkpoint.epoch)
    folder.write_folder(name, files)
    return CheckpointRef(
        path=str(folder / name),
        manifest_sha256=manifest.digest(files[manifest.NAME]),
        bytes=sum(len(content) for content in files.values()),
    )


def load(reference: CheckpointRef, *within: Storage) -> Checkpoint:
    """Load a checkpoint after comparing the hash of every file with the reference.

    Args:
        reference: The checkpoint as the ledger records it.
        within: The trial's own folder, and those of the trials that it continues. No other store
            is opened: the user's environment chooses the store, never a record.

    Raises:
        CheckpointError: It is missing, damaged, of a newer schema, or not the one referred to.
    """
    folder = _locate(reference, *within)
    try:
        found = manifest.load(folder.read, reference.manifest_sha256)
        files = dict(manifest.verified_files(folder.read, found))
        tensors = safetensors.torch.load(files[TENSORS])
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{folder}: {TENSORS} cannot be read: {error}") from error
    return Checkpoint(epoch=found["epoch"], tensors=tensors, state=json.loads(files[STATE]))


def load_first_valid(
    references: Iterable[CheckpointRef], *within: Storage
) -> tuple[Checkpoint | None, CheckpointRef | None, tuple[str, ...]]:
    """Load the first valid checkpoint.

    Returns:
        The checkpoint, its reference, and the reason for each one rejected before it.
    """
    rejected: list[str] = []
    for reference in references:
        try:
            return load(reference, *within), reference, tuple(rejected)
        except CheckpointError as error:
            rejected.append(str(error))
    return None, None, tuple(rejected)


def remove(reference: CheckpointRef, within: Storage) -> None:
    """Delete a checkpoint in its trial's own folder; a missing one is no error."""
    with suppress(OSError):  # costs space only until the trial's folder is deleted
        (within / _name(reference)).remove(within)


def _name(reference: CheckpointRef) -> str:
    """Return the checkpoint's own name; its folder may have moved since the record.

    Raises:
        CheckpointError: It has none.
    """
    name = reference.path.rpartition("/")[2]
    if name in {"", ".", ".."}:
        raise CheckpointError(f"{reference.path!r} names no checkpoint")
    return name


def _locate(reference: CheckpointRef, *within: Storage) -> Storage:
    """Return the folder of a checkpoint: in one of the given folders, wherever they are now.

    A path on this machine outside of them is accepted too: it is only read, and its hash is
    checked.

    Raises:
        CheckpointError: It is in a store that the environment does not name.
    """
    name = _name(reference)
    for folder in within:
        if reference.path == str(folder / name) or _is_dir(folder / name):
            return folder / name
    if "://" in reference.path:
        places = ", ".join(map(str, within)) or "any folder of this trial"
        raise CheckpointError(
            f"{reference.path} is outside of {places}: has ARCHSCOUT_CHECKPOINTS changed?"
        )
    return LocalFolder(Path(reference.path))


def _is_dir(folder: Storage) -> bool:
    try:
        return folder.is_dir()
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error
