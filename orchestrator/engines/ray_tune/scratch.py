"""Private temporary folder of one Ray session: sockets, token and logs; removed at its end.

A lock on a file in the folder shows that its owner is alive: process ids mean nothing between
containers that share /tmp, and macOS has no /proc.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from search_spaces.errors import ArchscoutError, ExitCode

SOCKET_PATH_MAX = 103 if sys.platform == "darwin" else 107
"""Maximum length of the path of a Unix socket, in bytes."""

_PREFIX = "ascout-"
_LOCK = "owner.lock"
_RAY = "r"
# The longest name that Ray 2.60 puts beneath its folder; pids have at most seven figures.
_RAY_SOCKET = f"/{_RAY}/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
ROOT_MAX = SOCKET_PATH_MAX - len(f"/{_PREFIX}12345678") - len(_RAY_SOCKET)
"""Maximum length of the path of the temporary folder, in bytes."""


class NoShortFolderError(ArchscoutError, ValueError):
    """No temporary folder has a path short enough for Ray's sockets."""

    exit_code = ExitCode.INPUT


class Scratch:
    """A folder with mode 0700 and a random name, locked by this process while it is used."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @property
    def ray(self) -> Path:
        """Folder for Ray's files; Ray opens it to other accounts, so it is not the top folder."""
        return self.path / _RAY

    @classmethod
    def create(cls) -> Self:
        """Create a folder, and remove those of killed processes.

        Raises:
            NoShortFolderError: The path of every temporary folder is too long.
        """
        for root in filter(_fits, _roots()):
            with contextlib.suppress(OSError):
                path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
                created = cls(path, _locked(path))
                _remove_stale(root)
                return created
        given = tempfile.gettempdir()
        raise NoShortFolderError(
            f"Ray's sockets need a temporary folder whose path has at most {ROOT_MAX} bytes: "
            f"{given} (TMPDIR) has {len(os.fsencode(given))}, and neither /tmp nor XDG_RUNTIME_DIR "
            "can be used instead. Set TMPDIR to a shorter folder"
        )

    def remove(self) -> None:
        """Remove the folder and its content; a second call has no effect."""
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)
        self._lock = -1


def _roots() -> Iterator[Path]:
    """Yield temporary folders by preference.

    XDG_RUNTIME_DIR is last: it is small, in memory, and removed when the user logs out.
    """
    yield Path(tempfile.gettempdir())
    yield Path("/tmp")  # noqa: S108 - `mkdtemp` makes a private folder in it
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        yield Path(runtime)


def _fits(root: Path) -> bool:
    return len(os.fsencode(root)) <= ROOT_MAX


def _locked(folder: Path) -> int:
    """Create the lock file of a new folder, locked before it gets its final name."""
    new = folder / f"{_LOCK}.new"
    lock = os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    new.rename(folder / _LOCK)
    return lock


def _remove_stale(root: Path) -> None:
    """Remove folders of this account whose lock is free."""
    for folder in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if not _is_private(folder):
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _is_private(folder: Path) -> bool:
    """Return True for a real folder of this account that no other account may enter."""
    found = folder.lstat()
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.getuid()
        and stat.S_IMODE(found.st_mode) == 0o700
    )
