"""Manifest of a folder: the size and SHA-256 of each of its files.

The manifest's own SHA-256 is recorded elsewhere and thereby pins every byte. Standard library only:
the process that verifies a registered model loads this file by its path, without archscout.
"""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

NAME = "manifest.json"
SCHEMA = 1
MAX_BYTES = 2**20
"""Maximum size of a manifest."""

Read = Callable[[str, int], bytes]
"""Reads a file of the folder by its name; may stop one byte after the given number of bytes."""


def digest(content: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def encode(files: Iterable[tuple[str, bytes]], **fields: Any) -> bytes:
    """Return the manifest of files.

    Args:
        files: Name (a relative POSIX path) and content of each.
        **fields: JSON values to keep in addition.
    """
    described = {
        name: {"bytes": len(content), "sha256": digest(content)} for name, content in files
    }
    manifest = {"schema": SCHEMA, "files": described, **fields}
    return json.dumps(manifest, indent=1, sort_keys=True).encode()


def write(folder: Path) -> str:
    """Write the manifest of a folder's files into it.

    Returns:
        SHA-256 of the manifest.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    text = encode((path.relative_to(folder).as_posix(), path.read_bytes()) for path in paths)
    (folder / NAME).write_bytes(text)
    return digest(text)


def load(read: Read, sha256: str) -> dict[str, Any]:
    """Return a folder's manifest after checking its own SHA-256.

    Raises:
        ValueError: It is missing, is not the one recorded, or has another schema.
    """
    return _parse(_read(read, NAME, MAX_BYTES), sha256)


def verified_files(read: Read, manifest: dict[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of a manifest after checking its SHA-256.

    Raises:
        ValueError: A file is missing or is not what was recorded.
    """
    for name, recorded in manifest["files"].items():
        parts = PurePosixPath(name).parts
        if not parts or name.startswith("/") or ".." in parts:
            raise ValueError(f"{name!r} leads out of the folder")
        content = _read(read, name, recorded["bytes"])
        if digest(content) != recorded["sha256"]:
            raise ValueError(f"{name} has changed since it was recorded")
        yield name, content


def verified_copy(source: Path, target: Path, sha256: str) -> dict[str, str]:
    """Copy the files of a manifest, and no others, after checking each.

    The bytes copied are the bytes that were hashed, so a file changed later changes nothing.

    Args:
        source: The folder to check.
        target: An empty folder.
        sha256: SHA-256 that was recorded of the manifest.

    Returns:
        SHA-256 by file.

    Raises:
        ValueError: A file is missing or is not what was recorded.
    """

    def read(name: str, max_bytes: int) -> bytes:
        return read_regular_file(source / name, max_bytes)

    text = _read(read, NAME, MAX_BYTES)
    manifest = _parse(text, sha256)
    for name, content in verified_files(read, manifest):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(content)
    (target / NAME).write_bytes(text)
    return {name: recorded["sha256"] for name, recorded in manifest["files"].items()}


def read_regular_file(path: Path, max_bytes: int) -> bytes:
    """Return the first `max_bytes` + 1 bytes of a regular file.

    Raises:
        OSError: It cannot be read, or is a link, a folder or a device.
    """
    # O_NONBLOCK: opening a pipe in the file's place must not block.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(max_bytes + 1)
    finally:
        os.close(descriptor)


def _parse(text: bytes, sha256: str) -> dict[str, Any]:
    if digest(text) != sha256:
        raise ValueError(f"{NAME} is not the one that was recorded")
    # The hash matches, so the structure needs no check beyond the schema.
    manifest: dict[str, Any] = json.loads(text)
    if manifest["schema"] != SCHEMA:
        raise ValueError(f"{NAME} has schema {manifest['schema']}, this version reads {SCHEMA}")
    return manifest


def _read(read: Read, name: str, max_bytes: int) -> bytes:
    try:
        content = read(name, max_bytes)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}") from error
    if len(content) > max_bytes:
        raise ValueError(f"{name} is larger than was recorded")
    return content
