"""Read a safe subset of YAML: mappings, lists and plain values, each with its line.

Tags, anchors, aliases, repeated keys, several documents, deep nesting, other encodings and large
files are refused. Values are only text, numbers, true, false and null. Plain scalars follow YAML
1.2: `2e6` is a number, `no` is text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from orchestrator.errors import KeyPath, Problem, ProblemsError, format_value

MAX_BYTES = 256 * 1024
MAX_DEPTH = 20

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT = re.compile(r"[-+]?[0-9]{1,40}|0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Content of a text."""

    value: Any
    """Mappings as dict, lists as list, scalars as plain values."""
    lines: dict[KeyPath, int]
    """Line of every key and list entry, from 1."""
    problems: tuple[Problem, ...]
    """Refused constructs that did not prevent reading the rest."""


def parse(raw: bytes, origin: str) -> Document:
    """Parse a text.

    Args:
        raw: Bytes of the text.
        origin: Name of the text in messages.

    Raises:
        ProblemsError: The text cannot be read at all.
    """
    if len(raw) > MAX_BYTES:
        raise ProblemsError([Problem(origin, text=f"larger than {MAX_BYTES // 1024} KB; not read")])
    reader = _Reader(origin=origin)
    try:
        value = reader.document(yaml.parse(_decoded(raw, origin), Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        what = f"not valid YAML: {error.problem or error.context}"
        raise ProblemsError([*reader.problems, Problem(origin, line=line, text=what)]) from None
    except yaml.YAMLError as error:
        what = f"not valid YAML: {format_value(str(error).splitlines()[0])}"
        raise ProblemsError([*reader.problems, Problem(origin, text=what)]) from None
    return Document(value=value, lines=reader.lines, problems=tuple(reader.problems))


def plain_value(text: str) -> Any:
    """Return the value of an unquoted scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, 0) if text[:2] in {"0o", "0x"} else int(text)
    return float(text) if len(text) < 400 and _FLOAT.fullmatch(text) else text


def _decoded(raw: bytes, origin: str) -> str:
    """Return the text without a byte order mark.

    Raises:
        ProblemsError: It is not UTF-8, or contains control characters.
    """
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ProblemsError([Problem(origin, line=1, text="UTF-16 text; save it as UTF-8")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        what = f"byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise ProblemsError([Problem(origin, line=line, text=what)]) from None
    odd = re.search(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", text)
    if odd:
        line = text.count("\n", 0, odd.start()) + 1
        what = f"character {odd.group()!a} is not allowed in YAML; remove it"
        raise ProblemsError([Problem(origin, line=line, text=what)])
    return text


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Builds plain values from YAML events, and records lines and problems."""

    origin: str
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def document(self, events: Iterator[Any]) -> Any:
        """Return the value of the only document."""
        value = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self._refuse((), event, "a second document; keep one, without further '---'")
                    break
                value = self._value(next(events), events, ())
        return value

    def _value(self, event: Any, events: Iterator[Any], path: KeyPath) -> Any:
        self.lines.setdefault(path, event.start_mark.line + 1)
        if isinstance(event, yaml.AliasEvent):
            self._refuse(path, event, f"alias '*{event.anchor}'; write the value out")
            return None
        if event.anchor is not None:
            self._refuse(path, event, f"anchor '&{event.anchor}'; write the value out where needed")
        if event.tag is not None:
            self._refuse(path, event, f"tag {format_value(event.tag)}; write a plain value")
        if isinstance(event, yaml.ScalarEvent):
            return plain_value(event.value) if event.implicit[0] else event.value
        if len(path) >= MAX_DEPTH:
            problem = Problem(
                self.origin,
                line=event.start_mark.line + 1,
                text=f"nested more than {MAX_DEPTH} levels deep; a study needs 5",
            )
            raise ProblemsError([*self.problems, problem])
        if isinstance(event, yaml.SequenceStartEvent):
            return self._list(events, path)
        return self._mapping(events, path)

    def _list(self, events: Iterator[Any], path: KeyPath) -> list[Any]:
        entries: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            entries.append(self._value(event, events, (*path, len(entries))))
        return entries

    def _mapping(self, events: Iterator[Any], path: KeyPath) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self._key(event, events, path)
            line = event.start_mark.line + 1
            if key in entries:
                first = self.lines[(*path, key)]
                self._refuse((*path, key), event, f"is given twice (first in line {first})")
                self._value(next(events), events, (*path, key))
                continue
            self.lines[(*path, key)] = line
            entries[key] = self._value(next(events), events, (*path, key))
        return entries

    def _key(self, event: Any, events: Iterator[Any], path: KeyPath) -> str:
        if isinstance(event, yaml.ScalarEvent) and event.anchor is None and event.tag is None:
            return str(event.value)
        self._refuse(path, event, "a key must be plain text")
        self._value(event, events, (*path, "?"))
        return "?"

    def _refuse(self, path: KeyPath, event: Any, text: str) -> None:
        line = event.start_mark.line + 1
        self.problems.append(Problem(self.origin, line=line, path=path, text=text))
