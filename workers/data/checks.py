"""Errors in user data, and checks that all sources share."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from search_spaces.errors import ArchscoutError, ExitCode

_PIECE = 1024


class DataError(ArchscoutError, ValueError):
    """Data that cannot be trained on; the message names it, the reason and a fix."""

    exit_code = ExitCode.INPUT

    def __init__(self, message: str, files: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.files = files or {}
        """Reason by faulty file; empty where the message names them all."""


def format_names(names: Iterable[str]) -> str:
    """Return the first five names, quoted and sorted, and the number of the others."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(map(repr, ordered[:5])) + more


def to_nfc(name: str) -> str:
    """Return a name in composed Unicode form (NFC): each accented letter is one character."""
    return unicodedata.normalize("NFC", name)


def check_names(where: Path, names: Iterable[str]) -> None:
    """Refuse class names that look the same.

    Raises:
        DataError: Two differ in case or in Unicode form only, or one cannot be printed.
    """
    folded: dict[str, str] = {}
    for name in names:
        if not name.isprintable():
            raise DataError(f"{where}: the class name {name!r} cannot be printed; rename it")
        other = folded.get(key := to_nfc(name).casefold())
        if other is not None:
            differ = "differ only in upper and lower case"
            if other == name:
                differ = "are the same"
            elif to_nfc(other) == to_nfc(name):
                differ = "look the same: one is composed (NFC), the other decomposed (NFD) Unicode"
            raise DataError(f"{where}: classes {other!r} and {name!r} {differ}; merge or rename")
        folded[key] = name


def check_distinct(examples: NDArray[Any], where: str = "", notes: Iterable[str] = ()) -> None:
    """Refuse examples that are all equal.

    Args:
        examples: Prepared, (N, ...).
        where: Prefix of the message.
        notes: Remarks on how they were read, which may be the reason.

    Raises:
        DataError: All examples are equal.
    """
    if len(examples) < 2 or any(
        bool((examples[start : start + _PIECE] != examples[:1]).any())
        for start in range(0, len(examples), _PIECE)
    ):
        return
    first = examples[0]
    same = "example is the same"
    if first.ndim == 3 and (first == first.flat[0]).all():
        same = f"value is {first.flat[0]:g}"
    why = "".join(f" ({note})" for note in notes)
    raise DataError(
        f"{where} every {same}{why}: nothing to learn from; save ones that differ".lstrip()
    )
