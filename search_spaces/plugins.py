"""Registries of blocks, loss terms and spaces, and objects in a user's own file.

Knows no particular block, term or space; those register themselves. A user's file may do so too,
with a decorator such as `@loss_term` from `search_spaces`; the space in that file can then use the
name.
"""

import difflib
import hashlib
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from search_spaces.errors import ArchscoutError, ExitCode

T = TypeVar("T")

USER_MODULE = "archscout_user_"
"""Prefix of the module names of users' files."""

SHIPPED_FILES: dict[str, tuple[Path, bytes]] = {}
"""Users' files that are used instead of those on disk, by the path in the config; see
`user_code`."""


class UnknownNameError(ArchscoutError, LookupError):
    """A name is not registered; the message lists the known ones."""

    exit_code = ExitCode.INPUT


class DuplicateNameError(ArchscoutError, ValueError):
    """A name is already taken."""


class UserFileError(ArchscoutError, ValueError):
    """A user's `file.py:name` cannot be loaded; the message says where it fails."""

    exit_code = ExitCode.INPUT


def nearest(name: str, options: Iterable[str]) -> str | None:
    """Return the option that a misspelled name most likely means; None if none is close."""
    found = difflib.get_close_matches(name[:60], list(options), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """Return the last sentence of an error, with a leading space; empty if no option is close."""
    meant = nearest(name, options)
    return "" if meant is None else f" Did you mean {meant!r}?"


class Registry(Generic[T]):
    """Objects of one kind by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        """Kind of the objects in messages, such as `loss term`."""
        self._things: dict[str, T] = {}

    def register(self, name: str, thing: T) -> T:
        """Register an object under a new name.

        Raises:
            DuplicateNameError: The name is taken.
        """
        if name in self._things:
            raise DuplicateNameError(f"{self.kind} {name!r} exists already; choose another name")
        self._things[name] = thing
        return thing

    def __getitem__(self, name: str) -> T:
        if name not in self._things:
            known = ", ".join(sorted(self._things)) or "none"
            hint = did_you_mean(name, self._things)
            raise UnknownNameError(f"unknown {self.kind} {name!r}. Known: {known}.{hint}")
        return self._things[name]

    def __contains__(self, name: object) -> bool:
        return name in self._things

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)


@dataclass(frozen=True, slots=True, kw_only=True)
class UserObject:
    """A loaded `file.py:name` of the user, and the digest of the file."""

    value: Any
    """The object."""
    name: str
    """Its name in the file."""
    path: Path
    """The file."""
    sha256: str
    """SHA-256 of the file's bytes as they were run; files that it imports are not included."""


def load_user_object(reference: str, base_dir: Path | str) -> UserObject:
    """Return the object `file.py:name`, with the file relative to `base_dir`.

    The file is run by path, once per process and content, as a script without options. Its folder
    is appended to the import path, so that it can import its neighbors.

    Raises:
        UserFileError: The reference is malformed, the file is missing or does not run, or does not
            define the name.
    """
    file, colon, name = reference.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise UserFileError(f"{reference!r} is not a reference to Python; write file.py:name")
    asked = Path(base_dir) / file
    path, source = SHIPPED_FILES.get(str(asked)) or read_user_file(asked)
    sha256 = hashlib.sha256(source).hexdigest()
    module = _run(path, source, sha256)
    if name not in vars(module):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UserFileError(f"{path}: defines no {name!r}.{did_you_mean(name, public)}")
    return UserObject(value=vars(module)[name], name=name, path=path, sha256=sha256)


def read_user_file(asked: Path) -> tuple[Path, bytes]:
    """Return the resolved path of a file, and its bytes.

    Raises:
        UserFileError: It cannot be read.
    """
    path = asked.resolve()
    try:
        return path, path.read_bytes()
    except OSError as error:
        neighbors = [file.name for file in path.parent.glob("*.py")]
        hint = did_you_mean(path.name, neighbors)
        raise UserFileError(f"{path}: cannot be read: {error.strerror}.{hint}") from error


@contextmanager
def as_script(path: Path | str) -> Iterator[None]:
    """Run the user's code with its own `sys.argv`, without our options."""
    before, sys.argv = sys.argv, [str(path)]
    try:
        yield
    finally:
        sys.argv = before


def _run(path: Path, source: bytes, sha256: str) -> ModuleType:
    # The name depends on path and content: two files called space.py are two modules, and an edited
    # one is run again. Dataclasses and pickle look classes up in sys.modules by this name.
    fingerprint = hashlib.sha256(f"{path}\n{sha256}".encode()).hexdigest()[:16]
    known = f"{USER_MODULE}{path.stem}_{fingerprint}"
    if known in sys.modules:
        return sys.modules[known]
    module = ModuleType(known)
    module.__file__, module.__package__ = str(path), ""  # as a script's: in no package
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[known] = module
    try:
        with as_script(path):
            exec(compile(source, str(path), "exec"), vars(module))  # noqa: S102 - the user named it
    except (Exception, SystemExit) as error:
        del sys.modules[known]
        what = f": cannot be run: {_reason(error)}"
        if "no known parent package" in what:
            what += f". It runs as a script: import modules in {path.parent} by name, without dots"
        if isinstance(error, SystemExit):
            what = (
                f" ends the program while it is loaded ({_reason(error)}). Only define functions "
            )
            what += "at the top level; put everything else under `if __name__ == '__main__':`"
        raise UserFileError(f"{_place(path, error)}{what}") from error
    return module


def _place(path: Path, error: BaseException) -> str:
    """Return file and line of the user's file where an error was raised."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}"
