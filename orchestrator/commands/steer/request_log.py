"""Requests to a study in words: those that are open, and what became of the last ones."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from orchestrator.errors import sanitize
from orchestrator.formatting import format_table
from orchestrator.ledger import Ledger, Request, StudyRow
from orchestrator.study.requests.pause import PAUSE
from orchestrator.trial import Trial

MAX_ANSWERED = 5
"""Answered requests that `status` shows; `--json` contains all of them."""
_LONGEST = 80
"""Characters of a request or of its result."""
_HIDDEN = frozenset({"operation", "driver", "base"})
"""Keys of payloads that mean nothing to a user."""
_INLINE = frozenset({"params"})
"""Keys whose contents are shown without their name."""


def state_of(ledger: Ledger, row: StudyRow) -> str:
    """Return the state of a study for display: `pausing` while its driver stops for a request."""
    if row.state == "running" and any(each.kind == PAUSE for each in ledger.requests(row.id)):
        return "pausing"
    return row.state


def to_documents(requests: Iterable[Request]) -> list[dict[str, Any]]:
    """Return requests as plain data."""
    return [
        {
            "id": each.id,
            "kind": each.kind,
            "payload": dict(each.payload),
            "recorded": each.recorded,
            "answered": each.answered,
            "answer": each.answer and dict(each.answer),
        }
        for each in requests
    ]


def text(requests: Sequence[Request], trials: Iterable[Trial]) -> str:
    """Return a table of the open requests and of the last answered ones; empty without any.

    Args:
        requests: All requests of a study, oldest first.
        trials: Its trials.
    """
    numbers = {trial.uid: str(trial.number) for trial in trials}
    last = [each for each in requests if each.answered is not None][-MAX_ANSWERED:]
    shown = [each for each in requests if each.answered is None or each in last]
    rows = [
        [
            datetime.fromtimestamp(each.recorded).astimezone().strftime("%H:%M:%S"),
            f"{each.kind} {_brief(each.payload, numbers)}".rstrip(),
            "open" if each.answer is None else _brief(each.answer, numbers),
        ]
        for each in shown
    ]
    return format_table(["at", "request", "result"], rows) if rows else ""


def _brief(content: Mapping[str, Any], numbers: Mapping[str, str]) -> str:
    """Return plain data in one line."""
    if "refused" in content:
        return sanitize(f"refused: {content['refused']}", _LONGEST)
    found = _leaves(content, "", numbers)
    return sanitize(", ".join(f"{name} {value}".strip() for name, value in found), _LONGEST)


def _leaves(content: Any, path: str, numbers: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Yield the values of nested data with their paths; numbers of trials instead of uids."""
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key not in _HIDDEN:
                name = path if key in _INLINE else f"{path}.{key}" if path else str(key)
                yield from _leaves(value, name, numbers)
    elif isinstance(content, list) and not any(isinstance(each, Mapping) for each in content):
        words = (numbers.get(str(each), str(each)) for each in content)
        yield path, " ".join(words) or "none"
    elif isinstance(content, list):
        for each in content:
            yield from _leaves(each, "", numbers)
    elif isinstance(content, bool):
        yield (path if content else f"not {path}"), ""
    elif content is not None:
        yield path, str(content)
