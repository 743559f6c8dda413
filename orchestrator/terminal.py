"""Output of a command: text on standard output, or exactly one JSON document there.

With `--json`, everything that libraries print goes to standard error instead.
"""

import io
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from typing import Any

SLOW_S = 2.0
"""Longest time that a command works without output."""


@dataclass(slots=True, kw_only=True)
class Terminal:
    """Output of one command.

    Examples:
        >>> Terminal().print("hello")
        hello
    """

    json: bool = False
    """Print one JSON document instead of text."""
    quiet: bool = False
    """Print results only."""
    started: float = field(default_factory=time.monotonic)
    """Start of the command by the monotonic clock; commands with a time limit count from here."""
    document: dict[str, Any] = field(default_factory=dict)
    """The document that `--json` prints at the end."""

    @property
    def interactive(self) -> bool:
        """True if a person watches, so that a display may redraw."""
        return not self.json and not self.quiet and sys.stdout.isatty()

    def print(self, text: str = "") -> None:
        """Print a result."""
        if not self.json:
            _print(text)

    def info(self, text: str = "") -> None:
        """Print additional information, unless the user asked for quiet."""
        if not self.quiet:
            self.print(text)

    def error(self, text: str) -> None:
        """Print to standard error."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201 - as in _print

    @contextmanager
    def waiting_for(self, what: str) -> Iterator[None]:
        """Print once what the command waits for, if the body takes longer than `SLOW_S`."""
        timer = threading.Timer(SLOW_S, self.info, [f"waiting for {what}"])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def json_output(self) -> Iterator[None]:
        """With `json`, keep standard output clean during the body, then print the document."""
        if not self.json:
            yield
            return
        with _stdout_to_stderr():
            yield
        _print(json.dumps(self.document, indent=2, sort_keys=True))


def escape_unencodable() -> None:
    """Make both standard streams escape characters that their encoding lacks.

    Class names, file names and metrics come from the user, in any script; the locale may be
    7-bit, and a file name need not be text at all (PEP 383).
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print(text: str) -> None:
    """Print to standard output; a closed pipe (`| head`) must not end a search."""
    try:
        print(text, flush=True)  # noqa: T201 - the only place that prints
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Redirect standard output, also that of native libraries, to standard error."""
    saved: int | None = None
    with suppress(OSError, ValueError):  # no file descriptor, as under pytest's capture
        if sys.stdout.fileno() == 1:
            sys.stdout.flush()
            saved = os.dup(1)
            os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        if saved is not None:
            os.dup2(saved, 1)
            os.close(saved)
