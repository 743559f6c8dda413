"""Examples on the device: kept once as bytes, served as normalised and augmented batches.

Knows no network. Work is done by the block of several batches, because on small images the calls
cost more than the arithmetic.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.data.dataset import Dataset, Split

# B batch, C channels, H height, W width

BLOCK_BYTES = 8 * 2**20
"""Most memory that one block of normalised examples takes."""

PIECE_ELEMENTS = 2**20
"""Bytes whose values are counted at a time."""

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Changes a block of images in bytes, each in its own way, without changing what they show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """Mean and deviation of each channel over the training part, by stream name."""

    mean: Mapping[str, tuple[float, ...]]
    """In bytes, 0 to 255."""
    deviation: Mapping[str, tuple[float, ...]]
    """In bytes; 1 where a channel never changes."""

    @classmethod
    def of(cls, split: Split) -> Self:
        """What the examples of this part say."""
        mean, deviation = {}, {}
        for name, values in split.inputs.items():
            moments = [_moments(values[:, channel]) for channel in range(values.shape[1])]
            mean[name] = tuple(first for first, _ in moments)
            deviation[name] = tuple(second for _, second in moments)
        return cls(mean=mean, deviation=deviation)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint: who predicts must normalise as training did."""
        return {
            name: {"mean": list(self.mean[name]), "deviation": list(self.deviation[name])}
            for name in sorted(self.mean)
        }

    def apply(self, name: str, bytes_BCHW: Tensor) -> Tensor:
        """Floating-point values of mean 0 and deviation 1 over the training part."""
        shape = (1, -1, *(1,) * (bytes_BCHW.ndim - 2))
        scale = torch.tensor([1 / value for value in self.deviation[name]])
        shift = torch.tensor(self.mean[name]) * scale
        values = bytes_BCHW.to(torch.float32)
        return values.mul_(scale.view(shape).to(values.device)).sub_(
            shift.view(shape).to(values.device)
        )


def _moments(values: NDArray[np.uint8]) -> tuple[float, float]:
    """Mean and deviation of one channel, exact and repeatable: bytes are counted, not added up."""
    counts = np.zeros(256)
    # numpy counts in eight bytes an element: by pieces, that never adds up to much.
    piece = max(1, PIECE_ELEMENTS * len(values) // values.size)
    for start in range(0, len(values), piece):
        counts += np.bincount(values[start : start + piece].reshape(-1), minlength=256)
    levels = np.arange(256)
    mean = float(counts @ levels / counts.sum())
    deviation = math.sqrt(float(counts @ (levels - mean) ** 2 / counts.sum()))
    return mean, deviation or 1.0


class DeviceSplit:
    """One part of a data set, in bytes on the device."""

    def __init__(self, split: Split, normalisation: Normalisation, device: torch.device) -> None:
        self.normalisation = normalisation
        self.device = device
        self.inputs = {
            name: _channels_last(_shared(values).to(device))
            for name, values in split.inputs.items()
        }
        self.targets_B = _shared(split.targets).to(device)

    def __len__(self) -> int:
        return len(self.targets_B)

    def in_order(self, batch_size: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """All examples as they stand, the last batch smaller."""
        yield from self._serve(torch.arange(len(self)), batch_size, None, None)

    def shuffled(
        self, batch_size: int, augment: Augment | None, generator: torch.Generator
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Whole batches in random order; an incomplete last one is left out.

        The generator alone decides order and augmentation.
        """
        order = torch.randperm(len(self), generator=generator)
        whole = max(batch_size, len(self) // batch_size * batch_size)
        yield from self._serve(order[:whole], batch_size, augment, generator)

    def num_batches(self, batch_size: int) -> int:
        """How many batches `shuffled` serves."""
        return max(1, len(self) // batch_size)

    def _serve(
        self,
        order: Tensor,
        batch_size: int,
        augment: Augment | None,
        generator: torch.Generator | None,
    ) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        each = 4 * sum(math.prod(values.shape[1:]) for values in self.inputs.values())
        block_size = max(1, BLOCK_BYTES // (each * batch_size)) * batch_size
        for chosen in torch.split(order.to(self.device), block_size):
            inputs = {}
            for name, values in self.inputs.items():
                block = values[chosen]
                if augment is not None and generator is not None and block.ndim == 4:
                    block = augment(block, generator)
                inputs[name] = self.normalisation.apply(name, block)
            targets = self.targets_B[chosen]
            for start in range(0, len(chosen), batch_size):
                batch = slice(start, start + batch_size)
                yield {name: values[batch] for name, values in inputs.items()}, targets[batch]


def on_device(
    dataset: Dataset, device: torch.device
) -> tuple[DeviceSplit, DeviceSplit, Normalisation]:
    """Training and validation part on the device, both normalised by the training part."""
    normalisation = Normalisation.of(dataset.train)
    return (
        DeviceSplit(dataset.train, normalisation, device),
        DeviceSplit(dataset.validation, normalisation, device),
        normalisation,
    )


def _shared(values: NDArray[Any]) -> Tensor:
    """A tensor on the array's own memory."""
    with warnings.catch_warnings():
        # Arrays from a shared object store are read-only, which torch warns of; nobody writes here.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
