"""What can be named: registries of blocks, terms and spaces, and objects in a user's own file.

Knows no particular block, term or space; those register themselves. A user's file may do so as
well: `from search_spaces.loss_terms import loss_term`, put the decorator before a class, and the
space in the same file can name it.
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
"""How the names of modules begin that users' files became."""

SHIPPED_FILES: dict[str, tuple[Path, bytes]] = {}
"""Users' files that go before those on disk, by the path they are named by; see `user_code`."""


class UnknownNameError(ArchscoutError, LookupError):
    """Nothing is registered under a name; the message lists what is."""

    exit_code = ExitCode.INPUT


class DuplicateNameError(ArchscoutError, ValueError):
    """A name is taken."""


class UserFileError(ArchscoutError, ValueError):
    """A `file.py:name` of the user leads nowhere; the message says where it breaks."""

    exit_code = ExitCode.INPUT


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that a misspelt name most likely meant; None if nothing comes close."""
    found = difflib.get_close_matches(name[:60], list(options), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """An error's last sentence, with a space before it; empty if nothing comes close."""
    meant = nearest(name, options)
    return "" if meant is None else f" Did you mean {meant!r}?"


class Registry(Generic[T]):
    """Things of one kind by name."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        """What is registered, for messages: `loss term`."""
        self._things: dict[str, T] = {}

    def register(self, name: str, thing: T) -> T:
        """Put a thing under a name of its own.

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
    """What a user's `file.py:name` stands for, and the file's fingerprint."""

    value: Any
    """The object."""
    name: str
    """Its name in the file."""
    path: Path
    """The file."""
    sha256: str
    """Digest of the file's bytes as they were run; other files that it imports are not covered."""


def load_user_object(reference: str, base_dir: Path | str) -> UserObject:
    """The object that `file.py:name` names, the file taken relative to `base_dir`.

    The file is run by path, once a process and content, as a script without options. Its folder is
    put at the end of the import path, so that it finds its neighbours.

    Raises:
        UserFileError: The reference is malformed, the file is missing or does not run, or the name
            is not in it.
    """
    file, colon, name = reference.rpartition(":")
    if not colon or not file.endswith(".py") or not name.isidentifier():
        raise UserFileError(f"{reference!r} is no reference to Python; write file.py:name")
    asked = Path(base_dir) / file
    path, source = SHIPPED_FILES.get(str(asked)) or read_user_file(asked)
    sha256 = hashlib.sha256(source).hexdigest()
    module = _run(path, source, sha256)
    if name not in vars(module):
        public = [known for known in vars(module) if not known.startswith("_")]
        raise UserFileError(f"{path}: holds no {name!r}.{did_you_mean(name, public)}")
    return UserObject(value=vars(module)[name], name=name, path=path, sha256=sha256)


def read_user_file(asked: Path) -> tuple[Path, bytes]:
    """Where a file really lies, and its bytes.

    Raises:
        UserFileError: It cannot be read.
    """
    path = asked.resolve()
    try:
        return path, path.read_bytes()
    except OSError as error:
        beside = [found.name for found in path.parent.glob("*.py")]
        hint = did_you_mean(path.name, beside)
        raise UserFileError(f"{path}: cannot be read: {error.strerror}.{hint}") from error


@contextmanager
def as_script(path: Path | str) -> Iterator[None]:
    """Run a user's code with the `sys.argv` of their file alone: our options are none of theirs."""
    before, sys.argv = sys.argv, [str(path)]
    try:
        yield
    finally:
        sys.argv = before


def _run(path: Path, source: bytes, sha256: str) -> ModuleType:
    # The name carries path and content: two files called space.py are two modules, and one that was
    # edited is run again. Dataclasses and pickle look classes up by it in sys.modules.
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
            what += f". It runs as a script: import by name what lies in {path.parent}, no dots"
        if isinstance(error, SystemExit):
            what = f" ends the program while it is loaded ({_reason(error)}). Let it define "
            what += "functions alone; what it does belongs under `if __name__ == '__main__':`"
        raise UserFileError(f"{_place(path, error)}{what}") from error
    return module


def _place(path: Path, error: BaseException) -> str:
    """File and line of the user's file where an error came from."""
    if isinstance(error, SyntaxError):
        return f"{error.filename or path}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f"{path}:{lines[-1]}" if lines else str(path)


def _reason(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {text}"
