"""What a network is built for: the shapes that go in, the classes and numbers that come out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

Shape = tuple[int, ...]
"""One example's shape without the batch: (channels, height, width) for images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The outside of every network of a study."""

    inputs: Mapping[str, Shape]
    """Shape of one example by stream name, e.g. `{"image": (1, 28, 28)}`."""
    num_classes: int
    """How many classes the head tells apart; 0 where nothing is classified."""
    num_values: int = 0
    """How many numbers the head foretells; 0 where there are none."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `from_dict` undoes it."""
        inputs = {name: list(shape) for name, shape in self.inputs.items()}
        return {
            "inputs": inputs,
            "num_classes": self.num_classes,
            "num_values": self.num_values,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The task that `to_dict` wrote."""
        inputs = {name: tuple(shape) for name, shape in data["inputs"].items()}
        return cls(
            inputs=inputs,
            num_classes=data["num_classes"],
            num_values=data.get("num_values", 0),  # absent where only classes were known
        )
