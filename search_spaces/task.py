"""What a network is built for: the shapes that go in and the number of classes that come out."""

from collections.abc import Mapping
from dataclasses import dataclass

Shape = tuple[int, ...]
"""One example's shape without the batch: (channels, height, width) for images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The outside of every network of a study."""

    inputs: Mapping[str, Shape]
    """Shape of one example by stream name, e.g. `{"image": (1, 28, 28)}`."""
    num_classes: int
    """How many classes the head tells apart."""
