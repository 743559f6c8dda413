"""Ready spaces by name; naming them loads nothing, loading one loads torch."""

from importlib import import_module
from typing import TYPE_CHECKING

from search_spaces.plugins import UnknownNameError, did_you_mean

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

NAMES = ("hybrid", "convolution", "transformer", "tiny", "wide")
"""The spaces that ship with us; each is a module here with a function `space`."""


def catalog() -> tuple[str, ...]:
    """The names of all ready spaces."""
    return NAMES


def load(name: str) -> "SearchSpace":
    """The ready space of that name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in NAMES:
        known = ", ".join(NAMES)
        raise UnknownNameError(
            f"unknown space {name!r}. Known: {known}.{did_you_mean(name, NAMES)}"
        )
    space: SearchSpace = import_module(f"{__name__}.{name}").space()
    return space
