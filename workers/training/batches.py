"""Examples on the device: kept once as they are, served as normalised and augmented batches.

Knows no network. Work is done by the block of several batches, because on small images the calls
cost more than the arithmetic.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple, Self
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.model_output import NOTHING, Batch, TargetScaler
from workers.data.dataset import Dataset, Split

# B batch, C channels, H height, W width

BLOCK_BYTES = 8 * 2**20
"""Most memory that one block of normalised examples takes."""

PIECE_ELEMENTS = 2**20
"""Bytes whose values are counted at a time."""

MIN_DEVIATION = 1e-37
"""Less counts as constant: its inverse is infinite in float32."""

VALUES = "values"
"""The name, beside those of the streams, under which the numbers' normalisation is kept."""

DARKEST = 4.0
"""Standard deviations below the mean where the background is at most: one outlier must not become
the background of all images."""


class ChannelStatistics(NamedTuple):
    """Statistics of each channel of a training split's images, in the data's units."""

    mean_C: Tensor
    deviation_C: Tensor
    least_C: Tensor
    greatest_C: Tensor

    def background(self, dtype: torch.dtype) -> Tensor:
        """The least value of each channel, outliers aside, (C,)."""
        return torch.maximum(self.least_C, self.mean_C - DARKEST * self.deviation_C).to(dtype)

    def noise(self, normal_NC: Tensor, dtype: torch.dtype) -> Tensor:
        """Pixels (N, C) with each channel's mean, standard deviation and range.

        Args:
            normal_NC: Standard normal numbers.
            dtype: Of the images.
        """
        noise_NC = self.mean_C + self.deviation_C * normal_NC
        noise_NC = torch.minimum(torch.maximum(noise_NC, self.least_C), self.greatest_C)
        return (noise_NC if dtype.is_floating_point else noise_NC.round()).to(dtype)


Augment = Callable[[Tensor, ChannelStatistics, torch.Generator], Tensor]
"""Changes a block of images in the data's units, each in its own way, without changing what they
show."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """Mean and deviation of each channel over the training part, by stream name."""

    mean: Mapping[str, tuple[float, ...]]
    """In the data's units: of bytes, 0 to 255. Streams of tokens have none."""
    deviation: Mapping[str, tuple[float, ...]]
    """In the data's units; 1 where a channel never changes."""
    values_mean: tuple[float, ...] = ()
    """Of each number to be foretold, in its units."""
    values_deviation: tuple[float, ...] = ()
    """Of each number to be foretold, in its units; 1 where it never changes."""
    _affine: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Scale and shift of each channel, sent to a device once."""

    @classmethod
    def of(cls, split: Split) -> Self:
        """What the examples of this part say."""
        mean, deviation = {}, {}
        for name, values in split.inputs.items():
            if not _is_tokens(values):
                mean[name], deviation[name] = _channel_moments(values)
        of_values = ((), ()) if split.values is None else _channel_moments(split.values)
        return cls(
            mean=mean, deviation=deviation, values_mean=of_values[0], values_deviation=of_values[1]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint: who predicts must normalise as training did."""
        inputs = {
            name: {"mean": list(self.mean[name]), "deviation": list(self.deviation[name])}
            for name in sorted(self.mean)
        }
        if not self.values_mean:
            return inputs
        values = {"mean": list(self.values_mean), "deviation": list(self.values_deviation)}
        return inputs | {VALUES: values}

    def apply(self, name: str, raw: Tensor) -> Tensor:
        """Floating-point values of mean 0 and deviation 1 over the training part."""
        if name not in self.mean:
            return raw
        key = (name, raw.device)
        if key not in self._affine:
            scale = torch.tensor([1 / value for value in self.deviation[name]])
            shift = torch.tensor(self.mean[name]) * scale
            self._affine[key] = (scale.to(raw.device), shift.to(raw.device))
        scale, shift = (_along_channels(numbers, raw) for numbers in self._affine[key])
        return raw.to(torch.float32, copy=True).mul_(scale).sub_(shift)


_KNOWN: WeakKeyDictionary[Split, Normalisation] = WeakKeyDictionary()
"""The normalisation of each training part that this process has: all trials of a study share it."""


def _is_tokens(values: NDArray[Any]) -> bool:
    """Whether whole numbers stand for symbols, whose mean says nothing."""
    return values.dtype.kind in "iu" and values.dtype != np.uint8


def _along_channels(numbers: Tensor, values: Tensor) -> Tensor:
    """A number for each channel, which come second in images and else last, shaped for values."""
    shape = (-1, 1, 1) if values.ndim == 4 else (-1,)
    return numbers.view(shape)


def _channel_moments(
    values: NDArray[Any],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Means and deviations of the channels of images, or of the features of all else."""
    of_channel = _moments if values.dtype == np.uint8 else _moments_of_numbers
    channels = np.moveaxis(values, 1, -1) if values.ndim == 4 else values
    moments = [of_channel(channels[..., index]) for index in range(channels.shape[-1])]
    return tuple(mean for mean, _ in moments), tuple(deviation for _, deviation in moments)


def _moments_of_numbers(values: NDArray[Any]) -> tuple[float, float]:
    """Mean and deviation of one channel of floats."""
    piece = max(1, PIECE_ELEMENTS * len(values) // values.size)
    parts = [values[start : start + piece] for start in range(0, len(values), piece)]
    mean = sum(part.astype(np.float64).sum() for part in parts) / values.size
    squares = sum(np.square(part.astype(np.float64) - mean).sum() for part in parts)
    deviation = math.sqrt(float(squares) / values.size)
    return float(mean), deviation if deviation > MIN_DEVIATION else 1.0


def _moments(values: NDArray[Any]) -> tuple[float, float]:
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
    """One part of a data set on the device; images in bytes stay bytes until they are served."""

    def __init__(self, split: Split, normalisation: Normalisation, device: torch.device) -> None:
        self.normalisation = normalisation
        self.device = device
        self.inputs = {
            name: _channels_last(_shared(values).to(device))
            for name, values in split.inputs.items()
        }
        self.targets_B = _shared(split.targets).to(device)
        self.target_scaler = TargetScaler(
            torch.tensor(normalisation.values_mean, device=device),
            torch.tensor(normalisation.values_deviation, device=device),
        )
        self.values_BV = NOTHING
        if split.values is not None:
            values_BV = _shared(split.values).to(device)
            self.values_BV = (values_BV - self.target_scaler[0]) / self.target_scaler[1]

    def __len__(self) -> int:
        return len(self.targets_B)

    @cached_property
    def channels(self) -> Mapping[str, ChannelStatistics]:
        """Statistics of the streams of images, for augmentation."""
        return {
            name: ChannelStatistics(
                torch.tensor(self.normalisation.mean[name], device=self.device),
                torch.tensor(self.normalisation.deviation[name], device=self.device),
                values.amin((0, 2, 3)).float(),
                values.amax((0, 2, 3)).float(),
            )
            for name, values in self.inputs.items()
            if values.ndim == 4
        }

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """All examples as they stand, the last batch smaller."""
        yield from self._serve(torch.arange(len(self)), batch_size, (None,), None)

    def shuffled(
        self,
        batch_size: int,
        augment: Augment | None,
        generator: torch.Generator,
        *,
        second_view: bool = False,
    ) -> Iterator[Batch]:
        """Every example once in random order, the last batch smaller.

        A single example left over is left out: batch normalisation has nothing to average there.
        The generator alone decides order and augmentation. Where asked, each batch holds its
        `second_view` of the examples, augmented independently.
        """
        order = torch.randperm(len(self), generator=generator)
        alone = len(self) > batch_size and len(self) % batch_size == 1
        ways = (augment, augment) if second_view else (augment,)
        yield from self._serve(order[: len(self) - alone], batch_size, ways, generator)

    def num_batches(self, batch_size: int) -> int:
        """How many batches `shuffled` serves."""
        whole, rest = divmod(len(self), batch_size)
        return max(1, whole + (rest > 1))

    def _serve(
        self,
        order: Tensor,
        batch_size: int,
        ways: Sequence[Augment | None],
        generator: torch.Generator | None,
    ) -> Iterator[Batch]:
        each = 4 * sum(math.prod(values.shape[1:]) for values in self.inputs.values())
        block_size = max(1, BLOCK_BYTES // (each * batch_size)) * batch_size
        for chosen in torch.split(order.to(self.device), block_size):
            taken = {name: values[chosen] for name, values in self.inputs.items()}
            views = [self._view(taken, augment, generator) for augment in ways]
            targets_B = self.targets_B[chosen]
            values_BV = self.values_BV[chosen] if len(self.values_BV) else self.values_BV
            for start in range(0, len(chosen), batch_size):
                batch = slice(start, start + batch_size)
                parts = [
                    {name: values[batch] for name, values in part.items()}
                    for view in views
                    for part in view
                ]
                yield Batch(
                    inputs=parts[0],
                    targets_B=targets_B[batch],
                    values_BV=values_BV[batch],
                    raw=parts[1],
                    target_scaler=self.target_scaler,
                    second_view=parts[2] if len(views) > 1 else {},
                )

    def _view(
        self,
        taken: Mapping[str, Tensor],
        augment: Augment | None,
        generator: torch.Generator | None,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """A block as the network reads it, and as it is in the data's units."""
        raw = {
            name: augment(values, self.channels[name], generator)
            if augment is not None and generator is not None and values.ndim == 4
            else values
            for name, values in taken.items()
        }
        return {name: self.normalisation.apply(name, block) for name, block in raw.items()}, raw


def on_device(
    dataset: Dataset, device: torch.device
) -> tuple[DeviceSplit, DeviceSplit, Normalisation]:
    """Training and validation part on the device, both normalised by the training part."""
    normalisation = _KNOWN.get(dataset.train)
    if normalisation is None:
        normalisation = _KNOWN[dataset.train] = Normalisation.of(dataset.train)
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
