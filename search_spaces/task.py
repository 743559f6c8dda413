"""The task of a network: input shapes, number of classes, number of regression targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

Shape = tuple[int, ...]
"""Shape of one example, without the batch: (channels, height, width) for images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Inputs and outputs that all networks of a study have in common."""

    inputs: Mapping[str, Shape]
    """Shape of one example by stream name, e.g. `{"image": (1, 28, 28)}`."""
    num_classes: int
    """Number of classes; 0 without classification."""
    num_values: int = 0
    """Number of regression targets; 0 without regression."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for `from_dict`."""
        inputs = {name: list(shape) for name, shape in self.inputs.items()}
        return {
            "inputs": inputs,
            "num_classes": self.num_classes,
            "num_values": self.num_values,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the task from the data of `to_dict`."""
        inputs = {name: tuple(shape) for name, shape in data["inputs"].items()}
        return cls(
            inputs=inputs,
            num_classes=data["num_classes"],
            num_values=data.get("num_values", 0),  # absent in data of versions without regression
        )
