"""Errors and one-line messages: where, what is wrong, what is allowed, the suggested fix.

Independent of file formats and commands.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from search_spaces.errors import ArchscoutError, ExitCode

__all__ = [
    "ArchscoutError",
    "CommandError",
    "ExitCode",
    "KeyPath",
    "Problem",
    "ProblemsError",
    "PromotionRefusedError",
    "format_key",
    "format_path",
    "format_value",
    "sanitize",
]

KeyPath = tuple[str | int, ...]
"""Keys and list positions from the top of a document."""

_SHOWN = 60
_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a user's input."""

    origin: str
    """File, preset or option that contains it."""
    text: str = ""
    """Message: problem, allowed values, suggested fix."""
    line: int | None = None
    path: KeyPath = ()
    """Path of its key; empty for the whole document."""

    def __str__(self) -> str:
        """Return the message with its position."""
        place = self.origin if self.line is None else f"{self.origin}:{self.line}"
        return (
            f"{place}: {format_key(self.path)}: {self.text}"
            if self.path
            else f"{place}: {self.text}"
        )


class ProblemsError(ArchscoutError):
    """The input is invalid; nothing was done."""

    exit_code = ExitCode.INPUT

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:_AT_ONCE]]
        if len(self.problems) > _AT_ONCE:
            lines.append(f"and {len(self.problems) - _AT_ONCE} more")
        super().__init__("\n".join(lines))


def format_key(path: KeyPath) -> str:
    """A path as people write it: `objectives[0].metric`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + sanitize(part)
    return text


def sanitize(text: str, longest: int = _SHOWN) -> str:
    """Text cut to a readable length, escaped where it could play tricks on a terminal."""
    printable = text.encode("unicode_escape").decode() if not text.isprintable() else text
    return printable if len(printable) <= longest else printable[: longest - 3] + "..."


def format_path(path: object) -> str:
    """A file's path as messages name it: whole, as long as it is one that a system could hold."""
    return sanitize(str(path), 400)


def format_value(value: object) -> str:
    """A value as messages quote it."""
    if isinstance(value, str):
        return f"'{sanitize(value)}'"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nothing"}[value]
    return sanitize(repr(value))


class CommandError(ArchscoutError):
    """A command ends with a message for the user and an exit code."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PromotionRefusedError(ArchscoutError):
    """A gate refused a promotion; the alias stays where it was. The message gives the reason."""

    exit_code = ExitCode.REFUSED
