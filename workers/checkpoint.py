"""Checkpoints that are whole or not there, and are believed only after their bytes are proved.

Knows tensors, plain values and files; neither networks nor trials. Nothing is ever unpickled.
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from workers.faults import fault
from workers.measurement import CheckpointRef

SCHEMA = 1
TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
LARGEST_MANIFEST = 64 * 1024


class CheckpointError(Exception):
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


def save(folder: Path, checkpoint: Checkpoint) -> CheckpointRef:
    """Write a checkpoint into a folder of its own under `folder`.

    It gets its name by one rename after every byte has reached the disk: a crash leaves it whole
    or nameless. Folders are readable by their owner alone.

    Raises:
        OSError: The disk is full or fails; nothing is left under the checkpoint's name.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    # The random part keeps an epoch that is measured again from replacing the first, which the
    # ledger may already refer to.
    name = f"epoch-{checkpoint.epoch:05d}-{secrets.token_hex(4)}"
    unfinished = folder / f".{name}.tmp"
    try:
        unfinished.mkdir(mode=0o700)
        reference = _write_files(unfinished, folder / name, checkpoint)
        _sync_folder(unfinished)
        fault("checkpoint.written")
        unfinished.rename(folder / name)
        fault("checkpoint.renamed")
        _sync_folder(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return reference


def load(reference: CheckpointRef) -> Checkpoint:
    """Read a checkpoint whose every byte hashes to what the reference promises.

    Raises:
        CheckpointError: It is missing, damaged, of a newer schema, or not the one referred to.
    """
    folder = Path(reference.path)
    manifest_bytes = _read_regular(folder / MANIFEST, LARGEST_MANIFEST)
    if hashlib.sha256(manifest_bytes).hexdigest() != reference.manifest_sha256:
        raise CheckpointError(f"{folder}: its manifest is not the one that was recorded")
    # Proved to be ours by its hash, so its structure needs no second look beyond the schema.
    manifest = json.loads(manifest_bytes)
    if manifest["schema"] != SCHEMA:
        raise CheckpointError(f"{folder}: schema {manifest['schema']}, this version reads {SCHEMA}")
    contents = {}
    for name in (TENSORS, STATE):
        promised = manifest["files"][name]
        contents[name] = _read_regular(folder / name, promised["bytes"])
        if hashlib.sha256(contents[name]).hexdigest() != promised["sha256"]:
            raise CheckpointError(f"{folder}: {name} has changed since it was written")
    try:
        tensors = safetensors.torch.load(contents[TENSORS])
    except SafetensorError as error:
        raise CheckpointError(f"{folder}: {TENSORS} cannot be read: {error}") from error
    return Checkpoint(epoch=manifest["epoch"], tensors=tensors, state=json.loads(contents[STATE]))


def load_first_whole(
    references: Iterable[CheckpointRef],
) -> tuple[Checkpoint | None, CheckpointRef | None, tuple[str, ...]]:
    """The first checkpoint that can be believed, its reference, and why each before it cannot."""
    rejected: list[str] = []
    for reference in references:
        try:
            return load(reference), reference, tuple(rejected)
        except CheckpointError as error:
            rejected.append(str(error))
    return None, None, tuple(rejected)


def remove(reference: CheckpointRef) -> None:
    """Free a checkpoint's space; one that is gone already is fine."""
    shutil.rmtree(reference.path, ignore_errors=True)


def _write_files(folder: Path, final: Path, checkpoint: Checkpoint) -> CheckpointRef:
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
    contents[MANIFEST] = json.dumps(manifest, sort_keys=True).encode()
    for name, content in contents.items():
        with (folder / name).open("xb") as file:
            fault("checkpoint.writing")
            file.write(content)
            file.flush()
            fault("checkpoint.syncing")
            os.fsync(file.fileno())
    return CheckpointRef(
        path=str(final),
        manifest_sha256=hashlib.sha256(contents[MANIFEST]).hexdigest(),
        bytes=sum(len(content) for content in contents.values()),
    )


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
