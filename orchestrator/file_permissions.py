"""Make the files of a home readable by their owner only.

The mode of a folder changes only if it contains nothing but our own state: a home directory, a
project or a shared folder keeps its mode, and our files in it are private by the umask.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

UMASK = 0o077
_DATABASES = ("ledger.db", "mlflow.db")
_ENTRIES = frozenset(
    {"artifacts", "backups", "checkpoints", "ledgers", "locks", "logs", ".gitignore", ".gitkeep"}
)
"""Entries of a home besides databases, made by archscout or git."""


@contextmanager
def private_files() -> Iterator[None]:
    """Create private files during the body, in this process and its children."""
    before = os.umask(UMASK)
    try:
        yield
    finally:
        os.umask(before)


def opener(path: str, flags: int) -> int:
    """Open a private file; an `opener` for `open`."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def open_to_all(folder: Path) -> bool:
    """Return True if every account may create files there, as in /tmp."""
    mode = folder.stat().st_mode if folder.exists() else 0
    return bool(mode & stat.S_ISVTX and mode & stat.S_IWOTH)


def close_to_others(folder: Path) -> None:
    """Make a home's folder private if it belongs to this user and contains only our state."""
    facts = folder.stat()
    if not stat.S_IMODE(facts.st_mode) & UMASK or facts.st_uid != os.getuid():
        return
    if not facts.st_mode & stat.S_ISVTX and all(_is_state(path.name) for path in folder.iterdir()):
        folder.chmod(0o700)


def _is_state(name: str) -> bool:
    return name in _ENTRIES or name.startswith(_DATABASES)
