"""Storage for checkpoints: a folder on a disk, or in an object store that fsspec opens by its URL.

Handles names and bytes only. Loads fsspec only where there is a URL.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from search_spaces.errors import ArchscoutError, ExitCode
from workers.failpoints import fault
from workers.manifest import read_regular_file
from workers.paths import beneath, outside, remove, sorted_entries

T = TypeVar("T")


class StorageUnreachableError(ArchscoutError, OSError):
    """A store failed; the message names its URL and repeats its library's error."""

    exit_code = ExitCode.INTERRUPTED


class Storage(Protocol):
    """A folder or file, on a disk or in an object store.

    A missing file raises FileNotFoundError; whatever else fails raises another OSError.
    """

    @property
    def name(self) -> str:
        """Last component of its path."""
        ...

    @property
    def is_remote(self) -> bool:
        """True for a store that is reached over a network and may be slow."""
        ...

    def __truediv__(self, name: str) -> Self:
        """Return the entry of this name."""
        ...

    def exists(self) -> bool:
        """Return whether there is a file or folder."""
        ...

    def is_dir(self) -> bool:
        """Return whether there is a folder."""
        ...

    def is_link(self) -> bool:
        """Return whether a symbolic link is in its place."""
        ...

    def entries(self) -> list[Self]:
        """Return the folder's entries, sorted by name; none if it is missing."""
        ...

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file in the folder and below, by relative path.

        Of a file, its own size under the empty path. Links are not followed.
        """
        ...

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the first `max_bytes` + 1 bytes of a file: enough to see that it is too large."""
        ...

    def write(self, name: str, content: bytes) -> None:
        """Write a file that appears whole or not at all; make the folder if needed."""
        ...

    def write_folder(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write files, in order, into a new folder; an error leaves nothing under its name.

        On a disk the folder is synced and appears by one rename. A store has no renames: after a
        crash the last files are missing.
        """
        ...

    def require_below(self, root: "Storage") -> Self:
        """Return it if it is below a folder once links are followed.

        Raises:
            PathOutsideError: It is the folder itself, or leads elsewhere.
        """
        ...

    def remove(self, root: "Storage") -> None:
        """Delete a file or folder below a root; a link is deleted, never followed.

        Raises:
            PathOutsideError: It is the root itself, or leads elsewhere. Nothing was deleted.
            OSError: It cannot be deleted; a missing one is no error.
        """
        ...

    def access_error(self) -> str | None:
        """Return the reason why files cannot be written here; None if they can."""
        ...


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder on a disk or a network file system, with renames and fsync."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def __truediv__(self, name: str) -> "LocalFolder":
        return LocalFolder(self.path / name)

    @property
    def name(self) -> str:
        """Last component of its path."""
        return self.path.name

    @property
    def is_remote(self) -> bool:
        """Always False."""
        return False

    def exists(self) -> bool:
        """Return whether there is a file or folder."""
        return self.path.exists()

    def is_dir(self) -> bool:
        """Return whether there is a folder."""
        return self.path.is_dir()

    def is_link(self) -> bool:
        """Return whether a symbolic link is in its place."""
        return self.path.is_symlink()

    def entries(self) -> "list[LocalFolder]":
        """Return the folder's entries, sorted by name; none if it is missing."""
        return [LocalFolder(path) for path in sorted_entries(self.path)]

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file in it, by relative path; links are not followed."""
        if self.path.is_symlink():
            return {}
        if self.path.is_file():
            return {"": self.path.stat().st_size}
        return {
            path.relative_to(self.path).as_posix(): path.lstat().st_size
            for path in self.path.rglob("*")
            if not path.is_dir()
        }

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the first `max_bytes` + 1 bytes of a regular file."""
        return read_regular_file(self.path / name, max_bytes)

    def write(self, name: str, content: bytes) -> None:
        """Write a file that appears whole or not at all; folders are made for their owner alone."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self.path / f".{name}-{secrets.token_hex(4)}.tmp"
        try:
            unfinished.write_bytes(content)
            unfinished.rename(self.path / name)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def write_folder(self, name: str, files: Mapping[str, bytes]) -> None:
        """Write and sync every byte under another name, then rename the folder."""
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        unfinished = self.path / f".{name}.tmp"
        try:
            unfinished.mkdir(mode=0o700)
            for file_name, content in files.items():
                with (unfinished / file_name).open("xb") as file:
                    fault("checkpoint.writing")
                    file.write(content)
                    file.flush()
                    fault("checkpoint.syncing")
                    os.fsync(file.fileno())
            _sync_folder(unfinished)
            fault("checkpoint.written")
            unfinished.rename(self.path / name)
            fault("checkpoint.renamed")
            _sync_folder(self.path)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def require_below(self, root: Storage) -> "LocalFolder":
        """Return it if it is below a folder once links are followed."""
        beneath(self.path, Path(str(root)))
        return self

    def remove(self, root: Storage) -> None:
        """Delete a file or folder below a root; a link is deleted, never followed."""
        remove(self.path, Path(str(root)))

    def access_error(self) -> str | None:
        """Return the reason why files cannot be written here; None if they can. Writes nothing."""
        path = next(path for path in (self.path, *self.path.parents) if path.exists())
        if not path.is_dir():
            return f"{path} is a file"
        return None if os.access(path, os.W_OK | os.X_OK) else f"no permission to write in {path}"


@dataclass(frozen=True, slots=True)
class RemoteFolder:
    """A folder in a store without renames and without fsync: a file is there whole, or not yet."""

    url: str
    """With its protocol, without a trailing slash."""

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemoteFolder":
        return RemoteFolder(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """Last component of its path."""
        return self.url.rpartition("/")[2]

    @property
    def is_remote(self) -> bool:
        """Always True."""
        return True

    def exists(self) -> bool:
        """Return whether it has any entry."""
        return self.is_dir()

    def is_dir(self) -> bool:
        """Return whether it has any entry."""
        return bool(self._run(lambda store, path: store.isdir(path)))

    def is_link(self) -> bool:
        """Return False: a store has no links."""
        return False

    def entries(self) -> "list[RemoteFolder]":
        """Return the folder's entries, sorted by name; none if it is missing."""

        def listed(store: Any, path: str) -> list[str]:
            try:
                return [str(entry) for entry in store.ls(path, detail=False)]
            except FileNotFoundError:
                return []

        names = {entry.rstrip("/").rpartition("/")[2] for entry in self._run(listed)}
        return [self / name for name in sorted(names)]

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each file in it, by relative path."""

        def measured(store: Any, path: str) -> dict[str, int]:
            return {
                file.removeprefix(path).strip("/"): facts["size"] or 0
                for file, facts in store.find(path, detail=True).items()
            }

        return self._run(measured)

    def read(self, name: str, max_bytes: int) -> bytes:
        """Return the first `max_bytes` + 1 bytes of a file."""
        return self._run(
            lambda store, path: bytes(store.cat_file(f"{path}/{name}", start=0, end=max_bytes + 1))
        )

    def write(self, name: str, content: bytes) -> None:
        """Write a file that appears whole or not at all."""

        def put(store: Any, path: str) -> None:
            try:
                store.pipe_file(f"{path}/{name}", content)
            except FileNotFoundError:  # a store with real folders
                _make_folders(store, path)
                store.pipe_file(f"{path}/{name}", content)

        self._run(put)

    def write_folder(self, name: str, files: Mapping[str, bytes]) -> None:
        """Upload files in order: after a crash the last ones are missing."""
        folder = self / name
        try:
            for file_name, content in files.items():
                fault("checkpoint.writing")
                folder.write(file_name, content)
            fault("checkpoint.written")
        except BaseException:
            with suppress(OSError):
                folder.remove(self)
            raise

    def require_below(self, root: Storage) -> "RemoteFolder":
        """Return it if it is below a folder."""
        rest = self.url.removeprefix(f"{root}/")
        if rest == self.url or {"", ".", ".."} & {*rest.split("/")}:
            raise outside(self.url, root)
        return self

    def remove(self, root: Storage) -> None:
        """Delete a file or folder below a root."""

        def delete(store: Any, path: str) -> None:
            with suppress(FileNotFoundError):
                store.rm(path, recursive=True)

        self.require_below(root)
        self._run(delete)

    def access_error(self) -> str | None:
        """Return the reason why files cannot be written here, by writing, reading and deleting."""
        probe, content = self / f".reached-{secrets.token_hex(4)}", secrets.token_bytes(16)
        try:
            probe.write("probe", content)
            found = probe.read("probe", len(content))
            probe.remove(self)
        except OSError as error:
            return str(error)
        return None if found == content else "a file read back differs from what was written"

    def _run(self, act: Callable[[Any, str], T]) -> T:
        try:
            from fsspec.core import url_to_fs  # noqa: PLC0415 - only where there is a URL

            store, path = url_to_fs(self.url)
            store.invalidate_cache()  # other processes write here too
            return act(store, path)
        except FileNotFoundError:
            raise
        except Exception as error:
            # Each store's library raises exceptions of its own.
            raise StorageUnreachableError(f"{self.url}: {type(error).__name__}: {error}") from error


def storage_at(location: str) -> Storage:
    """Return the storage of a path or URL; `file:` is a path, with renames and fsync.

    Raises:
        ValueError: The URL names a chain of stores or contains a password.
    """
    protocol, separator, rest = location.partition("://")
    if not separator:
        return LocalFolder(Path(location))
    if protocol == "file":
        return LocalFolder(Path(rest))
    if "::" in location:
        raise ValueError("a chain of stores (`::`) cannot be written to; name one store")
    if "@" in rest.partition("/")[0]:
        raise ValueError(
            "contains a login, which would be recorded with every checkpoint; configure it for "
            "the store's own library (environment or configuration file)"
        )
    return RemoteFolder(location.rstrip("/"))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folders(store: Any, path: str) -> None:
    """Make a folder and its parents except the outermost, so that no mistyped bucket is made."""
    root = "/" if path.startswith("/") else ""
    parts = path.strip("/").split("/")
    for length in range(2, len(parts) + 1):
        with suppress(FileExistsError):
            store.mkdir(root + "/".join(parts[:length]), create_parents=False)
