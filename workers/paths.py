"""Paths that stay below a folder: nothing outside of it is written or deleted."""

import os
import shutil
from pathlib import Path

from search_spaces.errors import ArchscoutError, ExitCode


class PathOutsideError(ArchscoutError, ValueError):
    """A path from a config, a name or a store leads out of the folder that it must be in."""

    exit_code = ExitCode.REFUSED


def outside(path: object, root: object) -> PathOutsideError:
    """Return the error of a path that is not below a root."""
    return PathOutsideError(
        f"{str(path)!r} leads out of {root}: nothing is written or deleted there. "
        "If a link leads there, replace it with a folder"
    )


def sorted_entries(folder: Path) -> list[Path]:
    """Return a folder's entries, sorted by name; none if it is missing."""
    return sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []


def beneath(path: Path, root: Path) -> Path:
    """Return the path if it is below the root once links are followed.

    Raises:
        PathOutsideError: It is the root itself, or leads elsewhere.
    """
    if _real(root) not in _real(path).parents:
        raise outside(path, root)
    return path


def remove(path: Path, root: Path) -> None:
    """Delete a file or folder below the root; a link is deleted, never followed.

    Raises:
        PathOutsideError: It is the root itself, or leads elsewhere. Nothing was deleted.
        OSError: It cannot be deleted; a missing one is no error.
    """
    if path.name in {"", ".."}:
        raise outside(path, root)
    if _real(path.parent) != _real(root):
        beneath(path.parent, root)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _real(path: Path) -> Path:
    """Return the path with its links followed, whether it exists or not."""
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # not a valid path
        raise PathOutsideError(f"{str(path)!r}: {error}") from None
