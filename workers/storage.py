"""Folders for what outlives a worker: on a disk, or in a store that fsspec opens by its URL.

Knows names and bytes; neither checkpoints nor trials. Loads fsspec only where there is a URL.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from search_spaces.errors import ArchscoutError, ExitCode

T = TypeVar("T")


class StorageUnreachableError(ArchscoutError, OSError):
    """A store did not do what it was asked; the message says which, and what its library said."""

    exit_code = ExitCode.INTERRUPTED


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder in a store without renames and without fsync: a file is there whole, or not yet.

    A file that is not there raises as on a disk, all else comes out as StorageUnreachableError.
    """

    url: str
    """With its protocol, without a slash at its end."""

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self.url.rpartition("/")[2]

    def is_dir(self) -> bool:
        """Whether anything lies in it."""
        return bool(self._do(lambda store, path: store.isdir(path)))

    exists = is_dir

    def iterdir(self) -> "list[RemoteFolder]":
        """What lies in it; nothing where it is not there."""

        def listed(store: Any, path: str) -> list[str]:
            try:
                return [str(found) for found in store.ls(path, detail=False)]
            except FileNotFoundError:
                return []

        names = {found.rstrip("/").rpartition("/")[2] for found in self._do(listed)}
        return [self / name for name in sorted(names)]

    def sizes(self) -> list[int]:
        """Bytes of every file beneath it."""

        def measured(store: Any, path: str) -> list[int]:
            return [facts["size"] or 0 for facts in store.find(path, detail=True).values()]

        return self._do(measured)

    def read(self, name: str, at_most: int) -> bytes:
        """A file's bytes, no more than one beyond what is expected."""
        return self._do(
            lambda store, path: bytes(store.cat_file(f"{path}/{name}", start=0, end=at_most + 1))
        )

    def write(self, name: str, content: bytes) -> None:
        """Put a file there, whole."""

        def put(store: Any, path: str) -> None:
            try:
                store.pipe_file(f"{path}/{name}", content)
            except FileNotFoundError:  # a store with folders of its own
                _make(store, path)
                store.pipe_file(f"{path}/{name}", content)

        self._do(put)

    def remove(self) -> None:
        """Free it with all that lies in it; one that is gone already is fine."""

        def freed(store: Any, path: str) -> None:
            try:
                store.rm(path, recursive=True)
            except FileNotFoundError:
                return

        self._do(freed)

    def _do(self, act: Callable[[Any, str], T]) -> T:
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - only where there is a URL

            store, path = url_to_fs(self.url)
            store.invalidate_cache()  # other processes write here too
            return act(store, path)
        except FileNotFoundError:
            raise
        except Exception as error:
            # Each store's library raises what it likes.
            raise StorageUnreachableError(f"{self.url}: {type(error).__name__}: {error}") from error


Folder = Path | RemoteFolder
Place = TypeVar("Place", Path, RemoteFolder, Folder)


class PathOutsideError(ArchscoutError, ValueError):
    """A path from a config, a name or a store leads out of the folder that it must lie in."""

    exit_code = ExitCode.REFUSED


def beneath(path: Place, root: Folder) -> Place:
    """Return the path if it lies below the root once links are followed.

    Raises:
        PathOutsideError: It is the root itself, or leads elsewhere.
    """
    if isinstance(path, Path) and isinstance(root, Path):
        inside = _real(root) in _real(path).parents
    else:
        whole = str(path)
        rest: str = whole.removeprefix(f"{root}/")
        inside = rest != whole and not {"", ".", ".."} & {*rest.split("/")}
    if not inside:
        raise _outside(path, root)
    return path


def _outside(path: Folder, root: Folder) -> PathOutsideError:
    return PathOutsideError(
        f"{str(path)!r} leads out of {root}: nothing is written or deleted there. "
        "If a link leads there, put a folder in its place"
    )


def is_link(path: Folder) -> bool:
    """Return whether a link was put in the place of a file or folder."""
    return isinstance(path, Path) and path.is_symlink()


def _real(path: Path) -> Path:
    """Return the path with its links followed, whether it is there or not."""
    try:
        return Path(os.path.realpath(path))
    except ValueError as error:  # no path at all
        raise PathOutsideError(f"{str(path)!r}: {error}") from None


def remove(path: Folder, root: Folder) -> None:
    """Delete a file or folder below the root; a link is deleted, never followed.

    Raises:
        PathOutsideError: It lies elsewhere, or is the root itself. Nothing was deleted.
        OSError: It cannot be deleted; one that is gone already is fine.
    """
    if isinstance(path, RemoteFolder):
        beneath(path, root).remove()
        return
    if path.name in {"", ".."} or isinstance(root, RemoteFolder):
        raise _outside(path, root)
    if _real(path.parent) != _real(root):
        beneath(path.parent, root)
    if path.is_dir() and not is_link(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _make(store: Any, path: str) -> None:
    """Make a folder and those around it, but for the outermost: a mistyped bucket stays unmade."""
    root = "/" if path.startswith("/") else ""
    parts = path.strip("/").split("/")
    for length in range(2, len(parts) + 1):
        with suppress(FileExistsError):
            store.mkdir(root + "/".join(parts[:length]), create_parents=False)


def folder_at(place: str) -> Folder:
    """The folder of a path or URL; `file:` is a path like any other, renames and fsync included.

    Raises:
        ValueError: The URL names a chain of stores or holds a password.
    """
    protocol, separator, rest = place.partition("://")
    if not separator:
        return Path(place)
    if protocol == "file":
        return Path(rest)
    if "::" in place:
        raise ValueError("a chain of stores (`::`) is not written to; name one store")
    if "@" in rest.partition("/")[0]:
        raise ValueError(
            "holds a login, which would be recorded with every checkpoint; give it where the "
            "store's own library looks for it (environment or configuration file)"
        )
    return RemoteFolder(place.rstrip("/"))


def within(folder: Folder) -> list[Folder]:
    """What lies in a folder, by name."""
    return sorted(folder.iterdir(), key=lambda path: path.name) if folder.is_dir() else []
