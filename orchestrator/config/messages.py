"""Messages for pydantic's validation errors: what is wrong, what is allowed, suggested fix."""

import re
from collections.abc import Callable
from typing import Any, get_args

from pydantic import ValidationError

from orchestrator.config.schema import BY_NAME, BY_PATH, EDITED, PLAIN, StudyConfig
from orchestrator.errors import KeyPath, format_value
from search_spaces.plugins import did_you_mean

Context = dict[str, Any]
Sentence = Callable[[Any, Context, KeyPath], str]
"""Function of the value, pydantic's context and the key path that returns the message."""


def problems_of(error: ValidationError, tree: object) -> list[tuple[KeyPath, str]]:
    """Return the first message of each invalid key.

    Args:
        error: Pydantic's error for the tree.
        tree: The input, to distinguish its keys from pydantic's own marks in a location.
    """
    found: dict[KeyPath, str] = {}
    for entry in error.errors(include_url=False):
        path = _in_tree(entry["loc"], tree, missing=entry["type"] == "missing")
        if len(found) < 200:
            found.setdefault(path, _sentence(entry, path))
    return list(found.items())


def _in_tree(location: KeyPath, tree: Any, *, missing: bool) -> KeyPath:
    """Return the part of a location that the input contains, and a missing key."""
    node = tree
    location = tuple(part for part in location if part not in {BY_NAME, BY_PATH, PLAIN, EDITED})
    for depth, part in enumerate(location):
        known = (
            part in node
            if isinstance(node, dict)
            else isinstance(node, list) and isinstance(part, int) and part < len(node)
        )
        if not known:
            return location[: depth + missing]
        node = node[part]
    return location


def _sentence(entry: Any, path: KeyPath) -> str:
    """Return the message of one error."""
    sentence = _SENTENCES.get(entry["type"])
    if sentence is None:
        return str(entry["msg"])
    return sentence(entry["input"], entry.get("ctx", {}), path)


def _unknown_key(_given: Any, _context: Context, path: KeyPath) -> str:
    keys = _keys(path[:-1])
    return f"unknown key. Allowed: {', '.join(sorted(keys))}.{did_you_mean(str(path[-1]), keys)}"


def _missing(_given: Any, _context: Context, path: KeyPath) -> str:
    return f"is missing; {_EXAMPLES.get(str(path[-1]), 'give it a value')}"


def _not_offered(given: Any, context: Context, _path: KeyPath) -> str:
    allowed = re.findall(r"'([^']*)'", context["expected"])
    hint = did_you_mean(given, allowed) if isinstance(given, str) else ""
    return f"{_kind(given)} is not offered. Allowed: {', '.join(allowed)}.{hint}"


def _not_a_section(given: Any, _context: Context, path: KeyPath) -> str:
    keys = ", ".join(sorted(_keys(path))) or "parameter paths"
    return f"needs keys and values, not {_kind(given)}. Keys: {keys}."


def _not_text(given: Any, _context: Context, _path: KeyPath) -> str:
    fix = "; put it in quotes" if isinstance(given, bool | int | float) else ""
    return f"needs text, not {_kind(given)}{fix}"


def _needs(what: str) -> Sentence:
    return lambda given, _context, _path: f"needs {what}, not {_kind(given)}"


def _bound(words: str, limit: str) -> Sentence:
    return lambda given, context, _path: (
        f"must be {words} {context[limit]:g}, not {format_value(given)}"
    )


def _kind(given: object) -> str:
    """Return a value as text, or its kind."""
    if isinstance(given, dict):
        return "keys and values"
    if isinstance(given, list | tuple):
        return "a list"
    return format_value(given)


def _keys(path: KeyPath) -> list[str]:
    """Return the keys that the section at a path may contain; none where any key may."""
    model: Any = StudyConfig
    for part in path:
        if isinstance(part, int):
            continue
        field = model.__pydantic_fields__.get(part) if _is_section(model) else None
        if field is None:
            return []
        entries = (getattr(each, "__origin__", each) for each in get_args(field.annotation))
        model = next(filter(_is_section, entries), field.annotation)
    fields = model.__pydantic_fields__.items() if _is_section(model) else []
    return [
        name for name, field in fields if not field.exclude
    ]  # excluded ones are only in the ledger


def _is_section(annotation: object) -> bool:
    """Return whether an annotation is a model or dataclass with keys of its own."""
    return isinstance(annotation, type) and hasattr(annotation, "__pydantic_fields__")


_EXAMPLES = {
    "space": "give a catalog name or file.py:name",
    "base": "give a catalog name or file.py:name",
    "direction": "write maximize or minimize",
    "metric": "name what is measured, like val_accuracy",
    "at_most": "give the bound, like 2.0e6",
}

_SENTENCES: dict[str, Sentence] = {
    "refused": lambda _given, context, _path: str(context["message"]),
    "value_error": lambda _given, context, _path: str(context["error"]),
    "extra_forbidden": _unknown_key,
    "unexpected_keyword_argument": _unknown_key,
    "missing": _missing,
    "literal_error": _not_offered,
    "model_type": _not_a_section,
    "dataclass_type": _not_a_section,
    "dict_type": _not_a_section,
    "tuple_type": _needs("a list, like [...]"),
    "string_type": _not_text,
    "int_type": _needs("a whole number"),
    "int_from_float": _needs("a whole number"),
    "float_type": _needs("a number"),
    "bool_type": _needs("a number, text, true or false"),
    "finite_number": _needs("a finite number"),
    "greater_than": _bound("above", "gt"),
    "greater_than_equal": _bound("at least", "ge"),
    "less_than_equal": _bound("at most", "le"),
    "string_too_short": lambda _given, _context, _path: "must not be empty",
    "string_too_long": lambda _given, _context, _path: "is longer than any name may be",
}
