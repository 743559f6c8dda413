"""Arguments of commands: text to numbers, with a message for other text, and `KEY=VALUE`."""

import argparse
from collections.abc import Iterable, Iterator

from orchestrator.errors import sanitize


def count(text: str) -> int:
    """Return an integer of at least 0."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise argparse.ArgumentTypeError(f"'{sanitize(text)}' is not a whole number")
    return int(text)


def positive(text: str) -> int:
    """Return an integer of at least 1."""
    if (value := count(text)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def increment(text: str) -> int:
    """Return an integer of at least 1, written with or without a plus sign."""
    return positive(text.removeprefix("+"))


def hours(text: str) -> float:
    """Return a number of hours above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("must be a number of hours above 0")
    return value


def port(text: str) -> int:
    """Return a port number."""
    if not 1 <= (value := count(text)) <= 65535:
        raise argparse.ArgumentTypeError("must be between 1 and 65535")
    return value


def assignments(given: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Yield key, value and option of each `--set KEY=VALUE` as typed; no key without an `=`."""
    for each in given:
        key, equals, text = each.partition("=")
        yield key if equals else "", text, "--set"
