"""Errors in somebody's data, and what every source checks alike."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from search_spaces.errors import ArchscoutError, ExitCode

_PIECE = 1024


class DataError(ArchscoutError, ValueError):
    """Data that cannot be trained on: says which, why, and what would do."""

    exit_code = ExitCode.INPUT

    def __init__(self, message: str, files: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.files = files or {}
        """Every file that is at fault and why; empty where the message names all there is."""


def format_names(names: Iterable[str]) -> str:
    """The first few of many names, quoted, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(map(repr, ordered[:5])) + more


def composed(name: str) -> str:
    """A name with each accented letter as one character (NFC), however it was written."""
    return unicodedata.normalize("NFC", name)


def check_names(where: Path, names: Iterable[str]) -> None:
    """Refuse names of classes that people could not tell apart.

    Raises:
        DataError: Two differ in case or in Unicode form only, or one cannot be printed.
    """
    folded: dict[str, str] = {}
    for name in names:
        if not name.isprintable():
            raise DataError(f"{where}: the class name {name!r} cannot be printed; rename it")
        other = folded.get(key := composed(name).casefold())
        if other is not None:
            differ = "differ in upper and lower case only"
            if other == name:
                differ = "are the same"
            elif composed(other) == composed(name):
                differ = "look the same: one is composed (NFC), the other decomposed (NFD) Unicode"
            raise DataError(f"{where}: classes {other!r} and {name!r} {differ}; merge or rename")
        folded[key] = name


def check_distinct(examples: NDArray[Any], where: str = "", notes: Iterable[str] = ()) -> None:
    """Refuse examples that are all the same.

    Args:
        examples: Prepared, (N, ...).
        where: What a message begins with.
        notes: How they were read, which may be why.

    Raises:
        DataError: They are.
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
