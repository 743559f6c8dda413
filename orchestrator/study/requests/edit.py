"""Requested edits: other constraints, a larger maximum budget, or another space for a study."""

import json
from collections.abc import Mapping
from typing import Any

from orchestrator.config.schema import StudyConfig
from orchestrator.study.moved_files import same_except_paths

EDIT = "edit"
"""Request kind; payload `changes`: old and new value by key, `space`: name and version of the new
space, `code_digest`: of the user's own Python then; answer `space`, and `trials`: numbers of the
earlier trials by class."""

EDITABLE = ("constraints", "budget.maximum", "space", "stop.target", "confirm")
"""Keys of the config that an edit changes."""


def differing_keys(before: StudyConfig, after: StudyConfig) -> dict[str, list[Any]]:
    """Return old and new value of every editable key that differs, as plain data."""
    old, new = (json.loads(config.canonical_json()) for config in (before, after))
    pairs = {key: [value_at(old, key), value_at(new, key)] for key in EDITABLE}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def edits(stored: StudyConfig, config: StudyConfig) -> dict[str, Any]:
    """Return the new value of each key if a config differs only in editable ones; else nothing."""
    keys = differing_keys(stored, config)
    tree = json.loads(stored.canonical_json())
    for key, (_, new) in keys.items():
        set_value(tree, key, new)
    alike = StudyConfig.from_json(json.dumps(tree))
    if not same_except_paths(alike, config) or obstacle(stored, config) is not None:
        return {}
    return {key: new for key, (_, new) in keys.items()}


def obstacle(before: StudyConfig, after: StudyConfig) -> str | None:
    """Return the reason why results of both configs cannot be compared; None if they can."""
    old, new = before.budget.maximum, after.budget.maximum
    if new < old:
        return (
            f"budget.maximum: {new} is below {old}: trials that were trained longer could not be "
            "compared with new ones; start another study"
        )
    if new > old and before.warm_start:
        return (
            f"budget.maximum: the results of {', '.join(before.warm_start)} are of {old} "
            f"{before.budget.unit}s; start another study"
        )
    return None


def value_at(tree: Mapping[str, Any], key: str) -> Any:
    """Return the value of a key such as `budget.maximum`."""
    section, _, name = key.partition(".")
    return tree[section].get(name) if name else tree[section]


def set_value(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set the value of a key such as `budget.maximum`."""
    section, _, name = key.partition(".")
    if name:
        tree[section] = {**tree[section], name: value}
    else:
        tree[section] = value
