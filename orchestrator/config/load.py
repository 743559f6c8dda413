"""Load a StudyConfig from a study.yaml or a preset, or report all mistakes in it at once.

Reads the text and checks that files exist; runs no user code and writes nothing.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from orchestrator.config import checks, strict_yaml
from orchestrator.config.messages import problems_of
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import KeyPath, Problem, ProblemsError, format_path
from search_spaces.plugins import did_you_mean

_EDIT_KEY = re.compile(r"space\.(fix|narrow|remove)\.(.+)", re.DOTALL)
"""An edit of the space as the key of an override."""
Place = tuple[str, int | None]
"""The file or option that contains a key, and its line in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A key given on the command line instead of in the file."""

    path: KeyPath
    value: Any
    option: str
    """The option as typed, for messages."""

    @classmethod
    def parse(cls, key: str, text: str, option: str) -> "Override":
        """Parse a key such as `a.b[0].c`, and a value in YAML.

        What follows `space.fix`, `space.narrow` or `space.remove` is one key, a parameter path.

        Raises:
            ProblemsError: The key or the value cannot be read.
        """
        document = strict_yaml.parse(text.encode(errors="surrogateescape"), option)
        if document.problems:
            raise ProblemsError(Problem(option, text=found.text) for found in document.problems)
        return cls.of(key, document.value, option)

    @classmethod
    def parse_all(cls, given: Iterable[tuple[str, str, str]]) -> "list[Override]":
        """Parse keys, values and the options they were given by; later ones win.

        Raises:
            ProblemsError: Every key or value that cannot be read.
        """
        found: list[Override] = []
        problems: list[Problem] = []
        for each in given:
            try:
                found.append(cls.parse(*each))
            except ProblemsError as error:
                problems += error.problems
        if problems:
            raise ProblemsError(problems)
        return found

    @classmethod
    def of(cls, key: str, value: Any, option: str) -> "Override":
        """Return the override of a key such as `a.b[0].c`.

        Raises:
            ProblemsError: The key cannot be read.
        """
        path: list[str | int] = []
        edit = _EDIT_KEY.fullmatch(key)
        for part in key.replace("[", ".").replace("]", "").split(".") if edit is None else ():
            path.append(int(part) if part.isascii() and part.isdecimal() and path else part)
        path += [] if edit is None else ["space", *edit.groups()]
        if not all(part != "" for part in path) or len(path) > strict_yaml.MAX_DEPTH:
            raise ProblemsError([Problem(option, text="not a key; write --set stop.trials=40")])
        return cls(path=tuple(path), value=value, option=option)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    """Text of a config and its origin."""

    label: str
    """Name in messages."""
    raw: bytes
    base_dir: FilePath
    """Folder that relative paths start from."""
    default_name: str


def presets() -> tuple[str, ...]:
    """Return the names of the configs that come with archscout."""
    folder = resources.files("orchestrator") / "presets"
    return tuple(
        sorted(
            entry.name.removesuffix(".yaml")
            for entry in folder.iterdir()
            if entry.name.endswith(".yaml")
        )
    )


def load(config: str, overrides: Iterable[Override] = ()) -> StudyConfig:
    """Return the config of a file or preset, with overrides of the command line.

    Args:
        config: A preset's name or the path of a YAML file.
        overrides: Keys that replace those of the text; later ones win.

    Raises:
        ProblemsError: Every mistake found.
    """
    source = _find(config)
    tree, located, problems = _read(source, overrides)
    tree = _without_empty(tree)
    tree.setdefault("name", source.default_name)
    return _checked(tree, source.base_dir, located, problems)


@contextmanager
def locating_edits(config: str, overrides: Iterable[Override] = ()) -> Iterator[None]:
    """Report edits of the space that do not fit it with their lines in the config.

    The space is loaded after the config was read.

    Args:
        config: As for `load`.
        overrides: As for `load`.

    Raises:
        ProblemsError: One was raised inside.
    """
    try:
        yield
    except ProblemsError as error:
        if not any(_is_edit(problem) for problem in error.problems):
            raise
        _, located, _ = _read(_find(config), overrides)
        raise ProblemsError(
            _in_order(
                [
                    located(problem.path, problem.text) if _is_edit(problem) else problem
                    for problem in error.problems
                ]
            )
        ) from error


def _is_edit(problem: Problem) -> bool:
    """Return whether a problem concerns one edit of the space."""
    return problem.path[:1] == ("space",) and len(problem.path) == 3


def _read(
    source: _Source, overrides: Iterable[Override]
) -> tuple[dict[str, Any], "_Places", list[Problem]]:
    """Return the keys of a source with overrides, their places, and what could not be read.

    Raises:
        ProblemsError: The source contains no keys.
    """
    document = strict_yaml.parse(source.raw, source.label)
    places: dict[KeyPath, Place] = {
        path: (source.label, line) for path, line in document.lines.items()
    }
    problems = list(document.problems)
    tree = {} if document.value is None else document.value
    if not isinstance(tree, dict):
        what = "a study is keys and values, like 'space: hybrid'"
        raise ProblemsError([*problems, Problem(source.label, line=1, text=what)])
    for override in overrides:
        _apply(tree, override, places, problems)
    return tree, _Places(places=places, label=source.label), problems


def changed_config(config: StudyConfig, overrides: Iterable[Override]) -> StudyConfig:
    """Return a config with other values of some keys.

    Raises:
        ProblemsError: Every mistake found.
    """
    tree, places = config.model_dump(mode="json"), dict[KeyPath, Place]()
    problems: list[Problem] = []
    for override in overrides:
        _apply(tree, override, places, problems)
    located = _Places(places=places, label=config.name, first_line=None)
    return _checked(_without_empty(tree), FilePath.cwd(), located, problems)


def from_mapping(tree: Mapping[str, Any], base_dir: FilePath) -> StudyConfig:
    """Return the study that keys and values given in Python describe.

    Args:
        tree: The keys of study.yaml.
        base_dir: Folder that relative paths start from.

    Raises:
        ProblemsError: Every mistake found.
    """
    nowhere = _Places(places={}, label="study", first_line=None)
    return _checked(_without_empty(dict(tree)), base_dir, nowhere, [])


def _checked(
    tree: dict[str, Any], base_dir: FilePath, located: "_Places", problems: list[Problem]
) -> StudyConfig:
    """Return the configuration of a tree of keys.

    Raises:
        ProblemsError: The problems found before, and every mistake found here.
    """
    refused = {problem.path for problem in problems}
    checked, found = _validated(_absolute(tree, base_dir))
    found += checks.problems(tree, base_dir)
    problems = problems + [located(path, text) for path, text in found if path not in refused]
    if problems or checked is None:
        raise ProblemsError(_in_order(problems))
    return checked


def _validated(tree: dict[str, Any]) -> tuple[StudyConfig | None, list[tuple[KeyPath, str]]]:
    """Return the config, or the problems of its single keys."""
    try:
        return StudyConfig.model_validate(tree), []
    except ValidationError as error:
        return None, problems_of(error, tree)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Places:
    """Locations of the keys in the input."""

    places: Mapping[KeyPath, Place]
    label: str
    first_line: int | None = 1
    """Line of the whole document; None where there is no text."""

    def __call__(self, path: KeyPath, text: str) -> Problem:
        """Return a problem at the key, or at the nearest section around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                origin, line = self.places[path[:length]]
                return Problem(origin, text=text, line=line, path=path)
        return Problem(self.label, text=text, line=self.first_line, path=path)


def _find(config: str) -> _Source:
    """Return the text of a preset or file.

    Raises:
        ProblemsError: There is none.
    """
    if config in presets():
        raw = (resources.files("orchestrator") / "presets" / f"{config}.yaml").read_bytes()
        return _Source(
            label=f"preset {config}", raw=raw, base_dir=FilePath.cwd(), default_name=config
        )
    path = FilePath(config).expanduser() if "\0" not in config else FilePath()
    try:
        with path.open("rb") as file:
            raw = file.read(strict_yaml.MAX_BYTES + 1)
    except FileNotFoundError:
        raise ProblemsError([_not_found(config, path)]) from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        what = f"cannot be read ({reason}); give a preset or a YAML file"
        raise ProblemsError([Problem(format_path(config), text=what)]) from None
    return _Source(
        label=format_path(config), raw=raw, base_dir=path.resolve().parent, default_name=path.stem
    )


def _not_found(config: str, path: FilePath) -> Problem:
    """Return the problem of a missing config, with presets and similar files."""
    listed = ", ".join(presets())
    files = [str(path.parent / f.name) for f in _yaml_files(path)]
    hint = did_you_mean(config, [*presets(), *files])
    return Problem(
        format_path(config), text=f"neither a preset nor a file. Presets: {listed}.{hint}".rstrip()
    )


def _yaml_files(path: FilePath) -> Sequence[FilePath]:
    """Return the YAML files in the folder of a path."""
    try:
        return sorted(path.parent.glob("*.y*ml"))[:200]
    except OSError:
        return ()


def _apply(
    tree: dict[str, Any],
    override: Override,
    places: dict[KeyPath, Place],
    problems: list[Problem],
) -> None:
    """Apply an override to the tree, with the sections that it needs."""
    if override.path[0] == "space" and len(override.path) > 1:
        tree["space"] = as_section(tree.get("space"))
    node: Any = tree
    for depth, part in enumerate(override.path):
        last = depth == len(override.path) - 1
        if isinstance(part, int):
            fits = isinstance(node, list) and part < len(node) + last
            if fits and part == len(node):
                node.append(None)
        else:
            fits = isinstance(node, dict)
        if not fits:
            text = "there is no such entry; set the section above it as a whole"
            problems.append(Problem(override.option, text=text, path=override.path))
            return
        if last:
            node[part] = override.value
        elif isinstance(part, str) and node.get(part) is None:
            node[part] = [] if isinstance(override.path[depth + 1], int) else {}
            places.setdefault(override.path[: depth + 1], (override.option, None))
        elif isinstance(part, int) and node[part] is None:
            node[part] = {}
        node = node[part]
    for known in [path for path in places if path[: len(override.path)] == override.path]:
        del places[known]
    places[override.path] = (override.option, None)


def as_section(space: Any) -> Any:
    """Return a space given by its name as the section that edits are added to."""
    return {"base": space} if isinstance(space, str) else space


def _without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the tree without empty keys, which take their defaults; a decision may be null."""
    return {
        key: _without_empty(value) if isinstance(value, dict) and key != "fix" else value
        for key, value in tree.items()
        if value is not None
    }


def _absolute(tree: dict[str, Any], base_dir: FilePath) -> dict[str, Any]:
    """Return the tree with absolute paths of the user's files."""
    changed = dict(tree)
    for key in ("space", "train"):
        given = tree.get(key)
        if isinstance(given, dict) and "base" in given:
            changed[key] = {**given, "base": _absolute_object(given["base"], base_dir)}
        elif key in tree:
            changed[key] = _absolute_object(given, base_dir)
    data = tree.get("data")
    if isinstance(data, dict) and isinstance(data.get("path"), str):
        changed["data"] = {**data, "path": str(checks.absolute(data["path"], base_dir))}
    return changed


def _absolute_object(given: Any, base_dir: FilePath) -> Any:
    """Return a reference `file.py:name` with an absolute path; other values unchanged."""
    if reference := checks.user_object(given):
        file, name = reference
        return f"{checks.absolute(file, base_dir)}:{name}"
    return given


def _in_order(problems: list[Problem]) -> list[Problem]:
    """Return the problems by line, those of options last, without repeats."""
    unique = dict.fromkeys(problems)
    return sorted(unique, key=lambda found: (found.line is None, found.line or 0))


def differences(old: StudyConfig, new: StudyConfig) -> list[str]:
    """Return the differences of two configs, one line per key: `stop.trials: 40 -> 60`."""
    before, after = flatten(old.model_dump(mode="json")), flatten(new.model_dump(mode="json"))
    return [
        f"{key}: {before.get(key, 'nothing')} -> {after.get(key, 'nothing')}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the leaves of a tree by dotted key, as text."""
    leaves: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            leaves |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            for index, entry in enumerate(value):
                leaves |= flatten(entry, f"{prefix}{key}[{index}].")
        else:
            leaves[f"{prefix}{key}"] = "nothing" if value is None else str(value)
    return leaves
