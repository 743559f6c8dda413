"""Built-in search spaces by name; listing them loads nothing, loading one loads torch."""

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from search_spaces.plugins import UnknownNameError, did_you_mean
from search_spaces.task import Task

if TYPE_CHECKING:
    from search_spaces.space import SearchSpace

_IMAGE = Task(inputs={"image": (1, 28, 28)}, num_classes=10)
EXAMPLES: Mapping[str, Task] = {
    "hybrid": _IMAGE,
    "convolution": _IMAGE,
    "transformer": _IMAGE,
    "tiny": _IMAGE,
    "wide": _IMAGE,
    "sequence": Task(inputs={"series": (32, 6)}, num_classes=0, num_values=1),
    "text": Task(inputs={"text": (32,)}, num_classes=4),
    "vector": Task(inputs={"vector": (8,)}, num_classes=3, num_values=2),
    "pendulum": Task(inputs={"vector": (2,)}, num_classes=0, num_values=3),
    "image_text": Task(inputs={"image": (3, 32, 32), "text": (16,)}, num_classes=2),
    "image_sound": Task(inputs={"image": (3, 32, 32), "sound": (1, 32, 64)}, num_classes=5),
}
"""Built-in spaces, each a module here with a function `space`, and an example task for its
networks; other tasks with the same streams work too."""
NAMES = tuple(EXAMPLES)


def catalog() -> tuple[str, ...]:
    """Return the names of all built-in spaces."""
    return NAMES


def load(name: str) -> "SearchSpace":
    """Return the built-in space of that name.

    Raises:
        UnknownNameError: There is none.
    """
    _check(name)
    space: SearchSpace = import_module(f"{__name__}.{name}").space()
    return space


def example(name: str) -> Task:
    """Return an example task of the built-in space of that name.

    Raises:
        UnknownNameError: There is none.
    """
    _check(name)
    return EXAMPLES[name]


def _check(name: str) -> None:
    if name not in NAMES:
        known = ", ".join(NAMES)
        raise UnknownNameError(
            f"unknown space {name!r}. Known: {known}.{did_you_mean(name, NAMES)}"
        )
