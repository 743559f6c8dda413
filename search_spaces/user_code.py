"""A user's own Python as it was read once: the files they named, and what these import beside them.

A search runs these very bytes from its first trial to its last, on every machine: what is edited
meanwhile, or is not there on a node, makes no difference. Knows no engine: whoever starts a worker
carries the files there.
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
"""More than this is no source code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCode:
    """Source files by absolute path, as they were read."""

    files: Mapping[str, bytes]
    """Those that were named, and every module beside them that an import statement reaches.
    Modules that are imported by a computed name are found on disk, where they are there."""
    named: tuple[tuple[str, str], ...]
    """The files that were named: their paths as the user has them, and where they really lie."""

    @classmethod
    def read(cls, references: Iterable[str]) -> Self:
        """What `file.py:name` references lead to.

        Raises:
            UserFileError: A file cannot be read, or there is more than any program needs.
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
        """Folders that modules are looked for in."""
        return {Path(path).parent for _, path in self.named}

    @property
    def digest(self) -> str:
        """SHA-256 over all of it, wherever it lies."""
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
        """Lets this process run these files, whatever lies on its disk meanwhile."""
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
    """Finds carried modules, unless something installed has their name."""

    def __init__(self, code: UserCode) -> None:
        self._files = code.files
        self._roots = code.roots

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What Python's import asks; None leaves the name to those who are asked next."""
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
    """Runs one carried file."""

    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source

    def create_module(self, _spec: ModuleSpec) -> None:
        """An ordinary module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill the module."""
        exec(compile(self._source, self._path, "exec"), vars(module))  # noqa: S102 - the user's own

    def get_source(self, _name: str) -> str:
        """For tracebacks, where the file is not on this machine."""
        return self._source.decode(errors="replace")


def _gather(path: Path, root: Path, files: dict[str, bytes]) -> None:
    """Add a file and all that its imports reach beneath `root`."""
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if str(path) in files:
            continue
        _, files[str(path)] = read_user_file(path)
        if sum(map(len, files.values())) > MAX_BYTES:
            raise UserFileError(
                f"{root}: what is imported from here is more than {MAX_BYTES >> 20} MB of Python; "
                "keep data in files of other kinds"
            )
        waiting += _imported(path, files[str(path)], root)


def _imported(path: Path, source: bytes, root: Path) -> set[Path]:
    """Files beneath `root` that a file's import statements may mean, wherever they stand in it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return set()  # whoever runs it says what is wrong
    names = {name for node in ast.walk(tree) for name in _names(node, path, root)}
    return {file for name in names for file in _with_parents(root, name)}


def _names(node: ast.AST, path: Path, root: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        # One dot means the package that the file lies in.
        parents = path.parent.relative_to(root).parts
        above = parents[: len(parents) - node.level + 1] if node.level else ()
        module = ".".join([*above, *([node.module] if node.module else [])])
        yield module
        yield from (f"{module}.{alias.name}".lstrip(".") for alias in node.names)


def _with_parents(root: Path, name: str) -> Iterator[Path]:
    """The files of a dotted name and of every package around it, as far as they are there."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        yield from filter(Path.is_file, _places(root, ".".join(parts[:length])))


def _places(root: Path, name: str) -> tuple[Path, Path]:
    """Where a module of a dotted name may lie."""
    place = root.joinpath(*name.split("."))
    return place / "__init__.py", place.with_name(f"{place.name}.py")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
