"""A model folder's manifest: which files belong to it, and the bytes of each.

Stands alone, on the standard library: the process that proves a model loads nothing else of ours.
"""

import hashlib
import json
import os
import stat
from pathlib import Path, PurePosixPath

NAME = "manifest.json"
SCHEMA = 1
_LARGEST = 2**20


def digest(content: bytes) -> str:
    """SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def write(folder: Path) -> str:
    """Write the manifest of a folder's files into it.

    Returns:
        SHA-256 of the manifest, which thereby stands for every byte.
    """
    files = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        content = path.read_bytes()
        files[path.relative_to(folder).as_posix()] = {
            "bytes": len(content),
            "sha256": digest(content),
        }
    text = json.dumps({"schema": SCHEMA, "files": files}, indent=1, sort_keys=True).encode()
    (folder / NAME).write_bytes(text)
    return digest(text)


def proved_copy(source: Path, target: Path, manifest_sha256: str) -> dict[str, str]:
    """Copy what the manifest names, and nothing else, once each file has proved itself.

    What is copied are the bytes that were hashed: a file changed later changes nothing, and files
    that somebody put beside them stay behind.

    Args:
        source: The folder that nobody vouches for.
        target: An empty folder.
        manifest_sha256: What the manifest must hash to.

    Returns:
        SHA-256 by file.

    Raises:
        ValueError: A file is missing, or is not what was recorded.
    """
    text = _read(source, NAME, _LARGEST)
    if digest(text) != manifest_sha256:
        raise ValueError(f"{NAME} is not the one that was recorded")
    manifest = json.loads(text)
    if manifest["schema"] != SCHEMA:
        raise ValueError(f"{NAME} has schema {manifest['schema']}, this version reads {SCHEMA}")
    digests = {}
    for name, promised in manifest["files"].items():
        content = _read(source, name, promised["bytes"])
        if digest(content) != promised["sha256"]:
            raise ValueError(f"{name} has changed since it was recorded")
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.write_bytes(content)
        digests[name] = promised["sha256"]
    (target / NAME).write_bytes(text)
    return digests


def _read(folder: Path, name: str, at_most: int) -> bytes:
    """The bytes of a plain file; links, devices and larger files are refused unread."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts:
        raise ValueError(f"{name!r} leads out of the model")
    try:
        descriptor = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError(f"{name} is not a plain file")
        if facts.st_size > at_most:
            raise ValueError(f"{name} has grown since it was recorded")
        return file.read()
