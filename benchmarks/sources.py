"""The modules of a checkout and their imports, hidden ones included, found by parsing alone."""

import ast
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

PACKAGES = ("search_spaces", "workers", "orchestrator")


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One parsed file."""

    name: str
    path: Path
    source: str
    tree: ast.Module

    @property
    def package(self) -> str:
        """Name of the package (the folder) that the file is in."""
        return self.name if self.path.stem == "__init__" else self.name.rpartition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """One module of the project importing another.

    Attributes:
        kind: "module" (at the top level), "function" (when a function runs) or "typing" (below
            `if TYPE_CHECKING:`, never at run time).
    """

    importer: str
    imported: str
    line: int
    kind: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A parsed checkout."""

    root: Path
    modules: Mapping[str, Module]

    @classmethod
    def read(cls, root: Path, packages: Iterable[str] = PACKAGES) -> Self:
        """Parse every Python file of the packages below `root`."""
        modules = {}
        for path in sorted(path for package in packages for path in (root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            source = path.read_text()
            tree = ast.parse(source, path)
            modules[name] = Module(name=name, path=path, source=source, tree=tree)
        return cls(root=root, modules=modules)

    def where(self, path: Path, line: int) -> str:
        """Return a place as `path:line`, relative to the checkout."""
        return f"{path.relative_to(self.root)}:{line}"

    def folders(self) -> Counter[str]:
        """Return the number of Python files directly in each folder."""
        return Counter(module.package for module in self.modules.values())

    @cached_property
    def imports(self) -> list[Import]:
        """Every import between two modules of the project, hidden ones included."""
        found: dict[Import, None] = {}
        for module in self.modules.values():
            visitor = _Imports(module, self.modules)
            visitor.visit(module.tree)
            found |= dict.fromkeys(visitor.found)
        return list(found)

    def arrows(self) -> set[tuple[str, str]]:
        """Return which module imports which at run time."""
        return {(i.importer, i.imported) for i in self.imports if i.kind != "typing"}

    def folder_arrows(self) -> set[tuple[str, str]]:
        """Return which folder imports which at run time."""
        return self._between(lambda name: self.modules[name].package)

    def child_arrows(self, package: str) -> set[tuple[str, str]]:
        """Return which direct child (file or folder) of a package imports which at run time."""
        prefix = f"{package}."

        def child(name: str) -> str:
            return name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) else ""

        return {arrow for arrow in self._between(child) if all(arrow)}

    def _between(self, group: Callable[[str], str]) -> set[tuple[str, str]]:
        pairs = {(group(importer), group(imported)) for importer, imported in self.arrows()}
        return {(importer, imported) for importer, imported in pairs if importer != imported}


class _Imports(ast.NodeVisitor):
    """Collects the imports of one module, those by `import_module` included."""

    def __init__(self, module: Module, names: Iterable[str]) -> None:
        self.module, self.names = module, frozenset(names)
        self.found: list[Import] = []
        self.kinds = ["module"]

    def _add(self, imported: Iterable[str], line: int) -> None:
        kind = "typing" if "typing" in self.kinds else self.kinds[-1]
        own = self.module.name
        for name in imported:
            if name in self.names and name != own:
                self.found.append(Import(importer=own, imported=name, line=line, kind=kind))

    def _visit_function(self, node: ast.AST) -> None:
        self.kinds.append("function")
        self.generic_visit(node)
        self.kinds.pop()

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _visit_function

    def visit_If(self, node: ast.If) -> None:
        if not ast.unparse(node.test).endswith("TYPE_CHECKING"):
            self.generic_visit(node)
            return
        self.kinds.append("typing")
        for statement in node.body:
            self.visit(statement)
        self.kinds.pop()
        for statement in node.orelse:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        self._add((alias.name for alias in node.names), node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        parents = self.module.package.split(".")
        relative = parents[: len(parents) - node.level + 1] if node.level else []
        base = ".".join([*relative, *([node.module] if node.module else [])])
        for alias in node.names:
            name = f"{base}.{alias.name}"
            self._add([name if name in self.names else base], node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func).endswith("import_module") and node.args:
            self._add(self._dynamic(node.args[0]), node.lineno)
        self.generic_visit(node)

    def _dynamic(self, argument: ast.expr) -> set[str]:
        """Return the modules that an argument of `import_module` may name.

        A literal names one, an f-string all below its literal prefix. Anything else may be any
        module whose full name is a string of the file.
        """
        if isinstance(argument, ast.Constant):
            return {str(argument.value)}
        prefix = ""
        for value in argument.values if isinstance(argument, ast.JoinedStr) else []:
            if isinstance(value, ast.Constant):
                prefix += str(value.value)
            elif isinstance(value, ast.FormattedValue) and ast.unparse(value.value) == "__name__":
                prefix += self.module.name
            else:
                break
        if prefix:
            return {name for name in self.names if name.startswith(prefix)}
        strings = (node for node in ast.walk(self.module.tree) if isinstance(node, ast.Constant))
        return {node.value for node in strings if isinstance(node.value, str)} & self.names


def cycles(arrows: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of names that import each other, directly or through others."""
    followers = defaultdict(set)
    for importer, imported in arrows:
        followers[importer].add(imported)
    reach = {name: _reachable(name, followers) for name in list(followers)}
    groups = {
        tuple(sorted(other for other in reach[name] if name in reach.get(other, ())))
        for name in reach
        if name in reach[name]
    }
    return sorted(list(group) for group in groups)


def _reachable(start: str, followers: Mapping[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        new = followers.get(waiting.pop(), set()) - seen
        seen |= new
        waiting.extend(new)
    return seen
