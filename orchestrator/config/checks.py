"""Checks across the keys of a study: names exist, files exist, metrics are measured.

They read raw values, so that these mistakes are reported together with all others. Values of a
wrong type are ignored here, because the config's own types refuse them.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from orchestrator.errors import KeyPath, format_path, format_value
from search_spaces.plugins import did_you_mean
from workers.metrics import COST_METRICS, TRAINER_METRICS, measured_metrics

_METRIC = r"[A-Za-z_][A-Za-z0-9_.\-]{0,99}"
_NEEDS_PATH = {
    "folder": "a folder of images",
    "idx": "a folder",
    "npz": "an .npz file or a folder of .npy files",
}
_TAKES_NO_PATH = frozenset({"digits", "pendulum", "shapes", "surrogate"})
_PACKAGES = {
    "/usr/share/datasets/fashion-mnist": "; on Debian: apt install dataset-fashion-mnist",
}
"""Hints for data that is available as a system package."""

_TARGET_MAE = r"(train|val)_mae/."
_DEPENDS_ON_WEIGHTS = r"^(weights|terms)/|total|weighted"
"""Metrics, or likely names of them, that depend on the loss weights."""

Problems = Iterator[tuple[KeyPath, str]]


def problems(tree: Mapping[str, Any], base_dir: FilePath) -> list[tuple[KeyPath, str]]:
    """Return all problems that involve several keys or other files, as key path and text.

    Args:
        tree: The config as read, without empty keys.
        base_dir: Folder that relative paths start from.
    """
    checks: tuple[Callable[[Mapping[str, Any], FilePath], Problems], ...] = (
        _space,
        _train,
        _data,
        _objectives,
        _constraints,
        _resources,
    )
    return [found for check in checks for found in check(tree, base_dir)]


def space_base(tree: Mapping[str, Any]) -> object:
    """Return the base of the space, which may be given by its name alone."""
    space = tree.get("space")
    return space.get("base") if isinstance(space, dict) else space


def user_object(value: object) -> tuple[str, str] | None:
    """Return file and name of a reference `file.py:name`; None for other values."""
    if not isinstance(value, str):
        return None
    match = re.fullmatch(r"([^\0]+\.py):([A-Za-z_][A-Za-z0-9_]*)", value)
    return (match[1], match[2]) if match else None


def absolute(path: str, base_dir: FilePath) -> FilePath:
    """Return a user's path as an absolute path."""
    try:
        return base_dir / FilePath(path).expanduser()
    except RuntimeError:  # `~user/...` without such a user
        return base_dir / path


def exists(path: FilePath) -> bool:
    """Return whether a path exists; False for invalid names."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _space(tree: Mapping[str, Any], base_dir: FilePath) -> Problems:
    from search_spaces.catalog import catalog  # noqa: PLC0415 - the command line starts without

    space = space_base(tree)
    path: KeyPath = ("space", "base") if isinstance(tree.get("space"), dict) else ("space",)
    if not isinstance(space, str) or space in catalog():
        return
    if user_object(space):
        yield from _file(path, space, base_dir)
    elif space.endswith(".py"):
        yield path, f"names no object of {format_value(space)}; write mine.py:space"
    else:
        names = ", ".join(catalog())
        yield (
            path,
            f"there is no space {format_value(space)}. Known: {names}; or file.py:name."
            f"{did_you_mean(space, catalog())}",
        )


def _train(tree: Mapping[str, Any], base_dir: FilePath) -> Problems:
    train = tree.get("train")
    if not isinstance(train, str):
        return
    if user_object(train):
        yield from _file(("train",), train, base_dir)
    else:
        yield ("train",), f"{format_value(train)} is not a reference; write file.py:name"
    if isinstance(space_base(tree), str) and not user_object(space_base(tree)):
        yield ("train",), "requires a space of your own; set space to file.py:name"


def _file(path: KeyPath, reference: str, base_dir: FilePath) -> Problems:
    """Yield a problem if a referenced file does not exist."""
    file, _ = user_object(reference) or ("", "")
    target = absolute(file, base_dir)
    if not exists(target):
        files = _names(target.parent, "*.py")
        yield path, f"there is no file {format_path(target)}.{did_you_mean(target.name, files)}"


def _names(folder: FilePath, pattern: str) -> list[str]:
    """Return the file names in a folder; none where it cannot be listed."""
    try:
        return sorted(file.name for file in folder.glob(pattern))[:200]
    except (OSError, ValueError):
        return []


def _data(tree: Mapping[str, Any], base_dir: FilePath) -> Problems:
    from workers.data import SOURCES  # noqa: PLC0415 - numpy is not needed for --help

    data = tree.get("data", {})
    if not isinstance(data, dict):
        return
    source, path = data.get("source", "digits"), data.get("path")
    if not isinstance(source, str):
        return
    if source not in SOURCES:
        known = ", ".join(sorted(SOURCES))
        hint = did_you_mean(source, SOURCES)
        yield ("data", "source"), f"nothing reads {format_value(source)}. Known: {known}.{hint}"
    elif source in _TAKES_NO_PATH and path is not None:
        yield ("data", "path"), f"source '{source}' is built in and reads no path; remove it"
    elif source in _NEEDS_PATH and path is None:
        yield ("data", "path"), f"source '{source}' reads {_NEEDS_PATH[source]}; give its path"
    elif isinstance(path, str) and not exists(absolute(path, base_dir)):
        hint = _PACKAGES.get(path, "")
        yield ("data", "path"), f"there is nothing at {format_path(absolute(path, base_dir))}{hint}"


def _objectives(tree: Mapping[str, Any], base_dir: FilePath) -> Problems:  # noqa: ARG001 - one shape for all checks
    for path, metric in _metrics(tree, "objectives"):
        if problem := objective_problem(metric, tree.get("train")):
            yield path, problem


def objective_problem(metric: str, train: str | None) -> str | None:
    """Return the reason why a metric cannot be an objective; None if it can.

    Args:
        metric: Name of the metric.
        train: The study's `train` key; a user's own training may measure any metric.
    """
    measured = measured_metrics(train)
    if measured is None:
        if re.fullmatch(_METRIC, metric):
            return None
        return f"{format_value(metric)} is not a metric's name; use letters, digits, '_', '.', '-'"
    if metric in measured or re.match(_TARGET_MAE, metric):
        return None
    if re.search(_DEPENDS_ON_WEIGHTS, metric):
        return (
            f"{format_value(metric)} depends on the loss weights that the study decides: the "
            "search could improve it by changing them. Use a metric without loss weights, such as "
            "val_accuracy"
        )
    return _unmeasured(metric, measured)


def _constraints(tree: Mapping[str, Any], base_dir: FilePath) -> Problems:  # noqa: ARG001 - as above
    for path, metric in _metrics(tree, "constraints"):
        if tree.get("train") is not None:
            yield path, "costs are not counted with your own training; remove the constraint"
        elif metric in TRAINER_METRICS:
            yield (
                path,
                f"'{metric}' is known only after training; make it an objective. "
                f"Constraints: {', '.join(sorted(COST_METRICS))}.",
            )
        elif metric not in COST_METRICS:
            yield path, _unmeasured(metric, COST_METRICS)


def _resources(tree: Mapping[str, Any], base_dir: FilePath) -> Problems:  # noqa: ARG001 - as above
    resources = tree.get("resources")
    gpu = resources.get("gpu") if isinstance(resources, dict) else None
    if isinstance(gpu, int | float) and gpu > 1 and gpu == int(gpu):
        text = f"a trial trains on one GPU at most, not {gpu:g}; give 1, or a share such as 0.5"
        yield ("resources", "gpu"), text
    if isinstance(resources, dict) and "gpu_found" in resources:
        yield ("resources", "gpu_found"), "is reserved for archscout; remove it"


def _metrics(tree: Mapping[str, Any], section: str) -> Iterator[tuple[KeyPath, str]]:
    """Yield the key paths and names of the metrics in a section."""
    entries = tree.get(section)
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict) and isinstance(entry.get("metric"), str):
            yield (section, index, "metric"), entry["metric"]


def _unmeasured(metric: str, measured: Iterable[str]) -> str:
    known = sorted(measured)
    return (
        f"nothing measures {format_value(metric)}. Measured: "
        f"{', '.join(known)}.{did_you_mean(metric, known)}"
    )
