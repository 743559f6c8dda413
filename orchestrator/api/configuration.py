"""Configurations given in Python: a file or preset, keys of study.yaml, functions of a file."""

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config.load import Override, as_section, from_mapping, load
from orchestrator.config.schema import StudyConfig
from orchestrator.errors import Problem, ProblemsError


def build_config(
    config: str | os.PathLike[str] | StudyConfig | None, keys: Mapping[str, Any]
) -> StudyConfig:
    """Return the configuration of a study.

    Args:
        config: Path of a study.yaml, name of a preset, or a StudyConfig; None if `keys` say all.
        keys: Keys of study.yaml, which replace those of `config`.

    Raises:
        ProblemsError: Every mistake in the configuration.
    """
    given = {name: _reference(name, value) for name, value in keys.items()}
    if config is None:
        return from_mapping(given, Path.cwd())
    if isinstance(config, StudyConfig):
        return config if not given else from_mapping(_merged(config, given), Path.cwd())
    return load(os.fspath(config), _overrides(given))


def _reference(key: str, value: Any) -> Any:
    """Return `file.py:name` for a function of a file; other values as they are."""
    if key == "space" and isinstance(value, Mapping) and "base" in value:
        return {**value, "base": _reference(key, value["base"])}
    if key not in {"space", "train"} or not callable(value):
        return value
    name = getattr(value, "__qualname__", "")
    try:
        file = inspect.getsourcefile(value)
    except TypeError:
        file = None
    if file is None or not Path(file).is_file() or not name.isidentifier():
        text = "is no function of a file; write it into a file and give 'file.py:name'"
        raise ProblemsError([Problem("study", text=text, path=(key,))])
    return f"{file}:{name}"


def _overrides(keys: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[Override]:
    """Return one override a leaf, so that `stop={"trials": 5}` keeps the other keys of `stop`."""
    found: list[Override] = []
    for key, value in keys.items():
        if isinstance(value, Mapping) and value:
            found += _overrides(value, (*path, key))
        else:
            found.append(Override(path=(*path, key), value=_plain(value), option="create_study"))
    return found


def _merged(config: StudyConfig, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration as plain data, with other values for some keys."""
    tree = config.model_dump(mode="json")
    if isinstance(keys.get("space"), Mapping):
        tree["space"] = as_section(tree["space"])
    for key, value in keys.items():
        both = isinstance(value, Mapping) and isinstance(tree.get(key), dict)
        tree[key] = tree[key] | dict(value) if both else _plain(value)
    return tree


def _plain(value: Any) -> Any:
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
