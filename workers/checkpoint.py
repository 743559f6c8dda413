"""Checkpoints that are whole or not there, and are believed only after their bytes are proved.

On a disk they get their name by one rename; in an object store their manifest comes last. Knows
tensors, plain values and files; neither networks nor trials. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from search_spaces.errors import ArchscoutError
from workers import storage
from workers.failpoints import fault
from workers.measurement import CheckpointRef
from workers.storage import Folder, RemoteFolder

SCHEMA = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
MAX_MANIFEST = 64 * 1024


class CheckpointError(ArchscoutError):
    """A checkpoint that must not be loaded: says which and why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Checkpoint:
    """A training state between two epochs."""

    epoch: int
    """Epochs trained."""
    tensors: Mapping[str, Tensor]
    """Weights and the optimizer's memory, by name."""
    state: Mapping[str, Any]
    """All else, as JSON has it."""


def save(folder: Folder, checkpoint: Checkpoint) -> CheckpointRef:
    """Write a checkpoint into a folder of its own under `folder`.

    A crash leaves it whole, or without the name or the manifest that make it one. Folders on a
    disk are readable by their owner alone.

    Raises:
        OSError: The disk or store is full or fails; nothing is left under the checkpoint's name.
    """
    # The random part keeps an epoch that is measured again from replacing the first, which the
    # ledger may already refer to.
    name = f"epoch-{checkpoint.epoch:05d}-{secrets.token_hex(4)}"
    contents = _contents(checkpoint)
    if isinstance(folder, RemoteFolder):
        _upload(folder / name, contents)
    else:
        _write_whole(folder, name, contents)
    return CheckpointRef(
        path=str(folder / name),
        manifest_sha256=hashlib.sha256(contents[MANIFEST]).hexdigest(),
        bytes=sum(len(content) for content in contents.values()),
    )


def load(reference: CheckpointRef, within: Folder | None = None) -> Checkpoint:
    """Read a checkpoint whose every byte hashes to what the reference promises.

    Args:
        reference: Which, as the ledger has it.
        within: The trial's own folder. No other place is asked over a network: which store is
            opened is said by whoever runs this, never by a record.

    Raises:
        CheckpointError: It is missing, damaged, of a newer schema, or not the one referred to.
    """
    folder = _place(reference, within)
    manifest_bytes = _read(folder, MANIFEST, MAX_MANIFEST)
    if hashlib.sha256(manifest_bytes).hexdigest() != reference.manifest_sha256:
        raise CheckpointError(f"{folder}: its manifest is not the one that was recorded")
    # Proved to be ours by its hash, so its structure needs no second look beyond the schema.
    manifest = json.loads(manifest_bytes)
    if manifest["schema"] != SCHEMA:
        raise CheckpointError(f"{folder}: schema {manifest['schema']}, this version reads {SCHEMA}")
    contents = {}
    for name in (TENSORS, STATE):
        promised = manifest["files"][name]
        contents[name] = _read(folder, name, promised["bytes"])
        if hashlib.sha256(contents[name]).hexdigest() != promised["sha256"]:
            raise CheckpointError(f"{folder}: {name} has changed since it was written")
    try:
        tensors = safetensors.torch.load(contents[TENSORS])
    except SafetensorError as error:
        raise CheckpointError(f"{folder}: {TENSORS} cannot be read: {error}") from error
    return Checkpoint(epoch=manifest["epoch"], tensors=tensors, state=json.loads(contents[STATE]))


def load_first_whole(
    references: Iterable[CheckpointRef], within: Folder | None = None
) -> tuple[Checkpoint | None, CheckpointRef | None, tuple[str, ...]]:
    """The first checkpoint that can be believed, its reference, and why each before it cannot."""
    rejected: list[str] = []
    for reference in references:
        try:
            return load(reference, within), reference, tuple(rejected)
        except CheckpointError as error:
            rejected.append(str(error))
    return None, None, tuple(rejected)


def remove(reference: CheckpointRef, within: Folder) -> None:
    """Free the space of a checkpoint in its trial's own folder; one that is gone is fine."""
    with suppress(OSError):  # costs space, until its trial's folder goes
        storage.remove(within / _name(reference), within)


def _name(reference: CheckpointRef) -> str:
    """Return the checkpoint's own name: records may say where it lay, not where it lies.

    Raises:
        CheckpointError: It has none.
    """
    name = reference.path.rpartition("/")[2]
    if name in {"", ".", ".."}:
        raise CheckpointError(f"{reference.path!r} names no checkpoint")
    return name


def _contents(checkpoint: Checkpoint) -> dict[str, bytes]:
    """A checkpoint's files in the order in which they are written, the manifest last."""
    contents = {
        TENSORS: safetensors.torch.save(dict(checkpoint.tensors)),
        STATE: json.dumps(checkpoint.state, sort_keys=True, allow_nan=False).encode(),
    }
    manifest = {
        "schema": SCHEMA,
        "epoch": checkpoint.epoch,
        "files": {
            name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for name, content in contents.items()
        },
    }
    return contents | {MANIFEST: json.dumps(manifest, sort_keys=True).encode()}


def _write_whole(folder: Path, name: str, contents: Mapping[str, bytes]) -> None:
    """Write and sync every byte under another name, then rename."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    unfinished = folder / f".{name}.tmp"
    try:
        unfinished.mkdir(mode=0o700)
        for file_name, content in contents.items():
            with (unfinished / file_name).open("xb") as file:
                fault("checkpoint.writing")
                file.write(content)
                file.flush()
                fault("checkpoint.syncing")
                os.fsync(file.fileno())
        _sync_folder(unfinished)
        fault("checkpoint.written")
        unfinished.rename(folder / name)
        fault("checkpoint.renamed")
        _sync_folder(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _upload(folder: RemoteFolder, contents: Mapping[str, bytes]) -> None:
    """Put every file there; what a crash cuts off has no manifest, and nothing refers to it."""
    try:
        for name, content in contents.items():
            fault("checkpoint.writing")
            folder.write(name, content)
        fault("checkpoint.written")
    except BaseException:
        with suppress(OSError):
            folder.remove()
        raise


def _place(reference: CheckpointRef, within: Folder | None) -> Folder:
    """Return the folder that a reference means: in the trial's own, wherever that lies now.

    A folder may have been moved or copied since the record. A path on this machine outside of it is
    only read, and proved by its hash like any other.

    Raises:
        CheckpointError: It lies in a store that nobody has allowed.
    """
    name = _name(reference)
    if within is not None and (reference.path == str(within / name) or _is_there(within / name)):
        return within / name
    if "://" in reference.path:
        raise CheckpointError(
            f"{reference.path} lies outside {within}: is ARCHSCOUT_CHECKPOINTS as it was?"
        )
    return Path(reference.path)


def _is_there(folder: Folder) -> bool:
    try:
        return folder.is_dir()
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read: {error}") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(folder: Folder, name: str, at_most: int) -> bytes:
    """A file's bytes; larger ones are refused."""
    if isinstance(folder, Path):
        return _read_regular(folder / name, at_most)
    try:
        content = folder.read(name, at_most)
    except OSError as error:
        raise CheckpointError(f"{folder / name} cannot be read: {error}") from error
    if len(content) > at_most:
        raise CheckpointError(f"{folder / name} is larger than was recorded")
    return content


def _read_regular(path: Path, at_most: int) -> bytes:
    """The bytes of a plain file; links, devices and larger files are refused unread."""
    descriptor = None
    try:
        # O_NONBLOCK: a pipe in the file's place must not hold the worker.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise CheckpointError(f"{path} is not a plain file")
        if facts.st_size > at_most:
            raise CheckpointError(f"{path} is larger than was recorded")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        if descriptor is not None:
            os.close(descriptor)
