"""What the user reads: text on standard output, or exactly one JSON document there.

Knows no command. With `--json` everything that any library prints goes to standard error, so that
standard output holds the document alone.
"""

import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import Any

SLOW_S = 2.0
"""How long a command may work without a word to the user."""


@dataclass(slots=True, kw_only=True)
class Terminal:
    """One command's output."""

    json: bool = False
    """Print one JSON document instead of text."""
    quiet: bool = False
    """Print results only."""
    asked: float = field(default_factory=time.monotonic)
    """When the command was given, by the monotonic clock: who promises an answer in time counts
    from here."""
    answer: dict[str, Any] = field(default_factory=dict)
    """The document that `--json` prints at the end."""

    @property
    def interactive(self) -> bool:
        """Whether a person watches, so that a display may move."""
        return not self.json and not self.quiet and sys.stdout.isatty()

    def tell(self, text: str = "") -> None:
        """Prints a result."""
        if not self.json:
            _print(text)

    def info(self, text: str = "") -> None:
        """Prints what is nice to know."""
        if not self.quiet:
            self.tell(text)

    def error(self, text: str) -> None:
        """Prints an error where errors go."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - as in _print

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """Say what is waited for, once, where the body takes longer than SLOW_S."""
        timer = threading.Timer(SLOW_S, self.info, [f"waiting for {what}"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Keeps standard output clean while a command runs; prints the document after it."""
        if not self.json:
            yield
            return
        with _stdout_set_aside():
            yield
        _print(json.dumps(self.answer, indent=2, sort_keys=True))


def print_anything() -> None:
    """Let both standard streams escape characters that their encoding lacks, instead of raising.

    Names of classes, files and metrics are the user's, in any script; a locale may be of 7 bits,
    and a file's name need not be text at all (PEP 383).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print(text: str) -> None:
    """Prints on standard output, for as long as anybody reads it: `| head` must end no search."""
    try:
        print(text, flush=True)  # noqa: T201 - this is the one place that prints
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def _stdout_set_aside() -> Iterator[None]:
    """Sends what Python and libraries below it print on standard output to standard error."""
    kept: int | None = None
    with suppress(OSError, ValueError):  # no descriptor behind it, as under a test's capture
        if sys.stdout.fileno() == 1:
            sys.stdout.flush()
            kept = os.dup(1)
            os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> str:
    """Aligned columns under a heading line.

    Args:
        head: Column names.
        rows: Cells, as many a row as there are names.
        right: Names of columns that align to the right.
    """
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    padded = (
        "  ".join(
            cell.rjust(width) if name in right else cell.ljust(width)
            for cell, width, name in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    )
    return "\n".join(padded)


def format_fields(entries: Mapping[str, str]) -> str:
    """Names and values in two columns."""
    width = max(map(len, entries))
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in entries.items())


def format_duration(seconds: float) -> str:
    """A time as people say it: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def format_number(value: float) -> str:
    """A number at a readable length: `0.9721`, `18,634`, `1.2e-05`."""
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 else f"{value:.3g}"
