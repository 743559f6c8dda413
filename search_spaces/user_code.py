"""A user's own Python source, read once: the files they named and the local modules these import.

A search runs the same bytes from its first trial to its last, on every machine, even if the files
are edited meanwhile or missing on a node. The engine sends them to the workers.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Self

from search_spaces.plugins import SHIPPED_FILES, UserFileError, load_user_object, read_user_file

MAX_BYTES = 16 << 20
"""Source code is never larger than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCode:
    """Source files by absolute path, as they were read."""

    files: Mapping[str, bytes]
    """The named files, and all modules in their folders that an import statement reaches. Modules
    that are imported by a computed name are read from disk, if they are there."""
    named: tuple[tuple[str, str], ...]
    """The named files: their paths in the config, and their resolved paths."""

    @classmethod
    def read(cls, references: Iterable[str]) -> Self:
        """Read the files of `file.py:name` references and the modules they import.

        Raises:
            UserFileError: A file cannot be read, or the files are too large for source code.
        """
        named = []
        files: dict[str, bytes] = {}
        for reference in references:
            asked = Path.cwd() / reference.rpartition(":")[0]
            path, _ = read_user_file(asked)
            named.append((str(asked), str(path)))
            _gather(path, path.parent, files)
        return cls(files=files, named=tuple(named))

    @property
    def roots(self) -> set[Path]:
        """Folders in which modules are searched."""
        return {Path(path).parent for _, path in self.named}

    @property
    def digest(self) -> str:
        """SHA-256 over all files, independent of their location."""
        named = [path for _, path in self.named]
        parts = [_sha256(self.files[path]) for path in named]
        parts += sorted(
            f"{Path(path).relative_to(root)}:{_sha256(source)}"
            for path, source in self.files.items()
            for root in self.roots
            if path not in named and Path(path).is_relative_to(root)
        )
        return _sha256("".join(parts).encode())

    def run(self) -> None:
        """Run the named files, as a worker does before it trains.

        Raises:
            UserFileError: One does not run here.
        """
        with self.installed():
            for asked, _ in self.named:
                load_user_object(f"{asked}:__file__", "/")

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Make this process import these files instead of those on disk."""
        before, finder = dict(SHIPPED_FILES), _Finder(self)
        SHIPPED_FILES.update({asked: (Path(path), self.files[path]) for asked, path in self.named})
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            SHIPPED_FILES.clear()
            SHIPPED_FILES.update(before)


class _Finder:
    """Finds the user modules, unless an installed module has the name."""

    def __init__(self, code: UserCode) -> None:
        self._files = code.files
        self._roots = code.roots

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a user module; None leaves the name to the next finder."""
        for root in self._roots:
            for file in _places(root, name):
                if str(file) in self._files and not (path is None and self._is_installed(name)):
                    return self._spec(name, file)
        return None

    def _is_installed(self, name: str) -> bool:
        found = PathFinder.find_spec(name)
        if found is None or found.origin is None:
            return name in sys.builtin_module_names
        return not any(Path(found.origin).is_relative_to(root) for root in self._roots)

    def _spec(self, name: str, file: Path) -> ModuleSpec:
        package = file.name == "__init__.py"
        loader = _Loader(str(file), self._files[str(file)])
        spec = ModuleSpec(name, loader, origin=str(file), is_package=package)  # type: ignore[arg-type]  # duck-typed
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [str(file.parent)]
        return spec


class _Loader:
    """Loads one user module."""

    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source

    def create_module(self, _spec: ModuleSpec) -> None:
        """Use Python's default module."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the source in the module."""
        exec(compile(self._source, self._path, "exec"), vars(module))  # noqa: S102 - the user's own

    def get_source(self, _name: str) -> str:
        """Return the source for tracebacks, where the file is not on this machine."""
        return self._source.decode(errors="replace")


def _gather(path: Path, root: Path, files: dict[str, bytes]) -> None:
    """Add a file and everything that its imports reach below `root`."""
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if str(path) in files:
            continue
        _, files[str(path)] = read_user_file(path)
        if sum(map(len, files.values())) > MAX_BYTES:
            raise UserFileError(
                f"{root}: the modules imported from here have more than {MAX_BYTES >> 20} MB; "
                "keep data in files of other kinds"
            )
        waiting += _imported(path, files[str(path)], root)


def _imported(path: Path, source: bytes, root: Path) -> set[Path]:
    """Return the files below `root` that the import statements of a file may mean."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()  # the error is reported where it is run
    names = {name for node in ast.walk(tree) for name in _names(node, path, root)}
    return {file for name in names for file in _with_parents(root, name)}


def _names(node: ast.AST, path: Path, root: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        # One dot is the file's own package.
        parents = path.parent.relative_to(root).parts
        above = parents[: len(parents) - node.level + 1] if node.level else ()
        module = ".".join([*above, *([node.module] if node.module else [])])
        yield module
        yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names)


def _with_parents(root: Path, name: str) -> Iterator[Path]:
    """Yield the existing files of a dotted name and of its parent packages."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        yield from filter(Path.is_file, _places(root, ".".join(parts[:length])))


def _places(root: Path, name: str) -> tuple[Path, Path]:
    """Return the possible files of a module with a dotted name."""
    place = root.joinpath(*name.split("."))
    return place / "__init__.py", place.with_name(f"{place.name}.py")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
