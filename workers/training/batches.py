"""Batches: splits on the device, served normalized and augmented.

Work is done in blocks of several batches, because on small images the calls cost more than the
arithmetic.
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
"""Maximum memory of a block of normalized examples."""

PIECE_SIZE = 2**20
"""Number of values that are summed at a time."""

MIN_STD = 1e-37
"""Smaller standard deviations count as constant: the inverse is infinite in float32."""

VALUES = "values"
"""Key of the regression targets among the streams of a stored normalization."""

MAX_BACKGROUND_STDS = 4.0
"""Maximum distance of the background below the mean, in standard deviations: one outlier must not
become the background of all images."""


class ChannelStatistics(NamedTuple):
    """Channel statistics of a training split's images, in the data's units."""

    mean_C: Tensor
    std_C: Tensor
    min_C: Tensor
    max_C: Tensor

    def background(self, dtype: torch.dtype) -> Tensor:
        """Return the minimum of each channel without outliers, (C,)."""
        return torch.maximum(self.min_C, self.mean_C - MAX_BACKGROUND_STDS * self.std_C).to(dtype)

    def noise(self, normal_NC: Tensor, dtype: torch.dtype) -> Tensor:
        """Return noise (N, C) with each channel's mean, standard deviation and range.

        Args:
            normal_NC: Standard normal numbers.
            dtype: Type of the images.
        """
        noise_NC = self.mean_C + self.std_C * normal_NC
        noise_NC = torch.minimum(torch.maximum(noise_NC, self.min_C), self.max_C)
        return (noise_NC if dtype.is_floating_point else noise_NC.round()).to(dtype)


Augment = Callable[[Tensor, ChannelStatistics, torch.Generator], Tensor]
"""Augments a block of images (B, C, H, W) in the data's units, independently for each image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """Mean and standard deviation of each channel over the training split, by stream name."""

    mean: Mapping[str, tuple[float, ...]]
    """Means in the data's units; streams of tokens have none."""
    std: Mapping[str, tuple[float, ...]]
    """Standard deviations in the data's units; 1 for a constant channel."""
    values_mean: tuple[float, ...] = ()
    """Mean of each regression target, in its units."""
    values_std: tuple[float, ...] = ()
    """Standard deviation of each regression target, in its units; 1 for a constant one."""
    _affine: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Scale and shift of each channel, by stream and device."""

    @classmethod
    def of(cls, split: Split) -> Self:
        """Return the normalization of a training split."""
        mean, std = {}, {}
        for name, values in split.inputs.items():
            if not _is_tokens(values):
                mean[name], std[name] = _channel_moments(values)
        of_values = ((), ()) if split.values is None else _channel_moments(split.values)
        return cls(mean=mean, std=std, values_mean=of_values[0], values_std=of_values[1])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for checkpoints and models."""
        inputs = {
            name: {"mean": list(self.mean[name]), "deviation": list(self.std[name])}
            for name in sorted(self.mean)
        }
        if not self.values_mean:
            return inputs
        values = {"mean": list(self.values_mean), "deviation": list(self.values_std)}
        return inputs | {VALUES: values}

    def apply(self, name: str, raw: Tensor) -> Tensor:
        """Return inputs as float32 with mean 0 and standard deviation 1 over the training split.

        Args:
            name: Name of the stream.
            raw: Inputs in the data's units, batch first.
        """
        if name not in self.mean:
            return raw
        key = (name, raw.device)
        if key not in self._affine:
            scale = torch.tensor([1 / value for value in self.std[name]])
            shift = torch.tensor(self.mean[name]) * scale
            self._affine[key] = (scale.to(raw.device), shift.to(raw.device))
        scale, shift = (_along_channels(numbers, raw) for numbers in self._affine[key])
        return raw.to(torch.float32, copy=True).mul_(scale).sub_(shift)


_CACHE: WeakKeyDictionary[Split, Normalisation] = WeakKeyDictionary()
"""Normalization of each training split in this process: all trials of a study share it."""


def _is_tokens(values: NDArray[Any]) -> bool:
    """Return whether integers are token indices, which have no meaningful mean."""
    return values.dtype.kind in "iu" and values.dtype != np.uint8


def _along_channels(numbers: Tensor, values: Tensor) -> Tensor:
    """Return a number per channel in broadcast shape: second axis of images, else the last."""
    shape = (-1, 1, 1) if values.ndim == 4 else (-1,)
    return numbers.view(shape)


def _channel_moments(
    values: NDArray[Any],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return means and standard deviations of image channels, or of features of other inputs."""
    of_channel = _byte_moments if values.dtype == np.uint8 else _float_moments
    channels = np.moveaxis(values, 1, -1) if values.ndim == 4 else values
    moments = [of_channel(channels[..., index]) for index in range(channels.shape[-1])]
    return tuple(mean for mean, _ in moments), tuple(std for _, std in moments)


def _float_moments(values: NDArray[Any]) -> tuple[float, float]:
    """Return mean and standard deviation of one channel of floats."""
    piece = max(1, PIECE_SIZE * len(values) // values.size)
    chunks = [values[start : start + piece] for start in range(0, len(values), piece)]
    mean = sum(chunk.astype(np.float64).sum() for chunk in chunks) / values.size
    squares = sum(np.square(chunk.astype(np.float64) - mean).sum() for chunk in chunks)
    std = math.sqrt(float(squares) / values.size)
    return float(mean), std if std > MIN_STD else 1.0


def _byte_moments(values: NDArray[Any]) -> tuple[float, float]:
    """Return mean and standard deviation of one channel of bytes, exact by counting levels."""
    counts = np.zeros(256)
    # numpy takes eight bytes per element to count, so count in pieces.
    piece = max(1, PIECE_SIZE * len(values) // values.size)
    for start in range(0, len(values), piece):
        counts += np.bincount(values[start : start + piece].reshape(-1), minlength=256)
    levels = np.arange(256)
    mean = float(counts @ levels / counts.sum())
    std = math.sqrt(float(counts @ (levels - mean) ** 2 / counts.sum()))
    return mean, std or 1.0


class DeviceSplit:
    """A split on the device; byte images stay bytes until they are served."""

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
            torch.tensor(normalisation.values_std, device=device),
        )
        self.values_BV = NOTHING
        if split.values is not None:
            values_BV = _shared(split.values).to(device)
            self.values_BV = (values_BV - self.target_scaler[0]) / self.target_scaler[1]

    def __len__(self) -> int:
        return len(self.targets_B)

    @cached_property
    def channels(self) -> Mapping[str, ChannelStatistics]:
        """Channel statistics of the image streams, for augmentation."""
        return {
            name: ChannelStatistics(
                torch.tensor(self.normalisation.mean[name], device=self.device),
                torch.tensor(self.normalisation.std[name], device=self.device),
                values.amin((0, 2, 3)).float(),
                values.amax((0, 2, 3)).float(),
            )
            for name, values in self.inputs.items()
            if values.ndim == 4
        }

    def in_order(self, batch_size: int) -> Iterator[Batch]:
        """Yield all examples in order; the last batch may be smaller."""
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
        augmentations = (augment, augment) if second_view else (augment,)
        yield from self._serve(order[: len(self) - alone], batch_size, augmentations, generator)

    def num_batches(self, batch_size: int) -> int:
        """Return the number of batches of `shuffled`."""
        whole, rest = divmod(len(self), batch_size)
        return max(1, whole + (rest > 1))

    def _serve(
        self,
        order: Tensor,
        batch_size: int,
        augmentations: Sequence[Augment | None],
        generator: torch.Generator | None,
    ) -> Iterator[Batch]:
        each = 4 * sum(math.prod(values.shape[1:]) for values in self.inputs.values())
        block_size = max(1, BLOCK_BYTES // (each * batch_size)) * batch_size
        for chosen in torch.split(order.to(self.device), block_size):
            taken = {name: values[chosen] for name, values in self.inputs.items()}
            views = [self._view(taken, augment, generator) for augment in augmentations]
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
        """Return a block as network inputs and in the data's units."""
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
    """Return training and validation split on the device, and their normalization.

    Args:
        dataset: Data set.
        device: Device of the tensors.
    """
    normalisation = _CACHE.get(dataset.train)
    if normalisation is None:
        normalisation = _CACHE[dataset.train] = Normalisation.of(dataset.train)
    return (
        DeviceSplit(dataset.train, normalisation, device),
        DeviceSplit(dataset.validation, normalisation, device),
        normalisation,
    )


def _shared(values: NDArray[Any]) -> Tensor:
    """Return a tensor that shares the array's memory."""
    with warnings.catch_warnings():
        # Arrays from a shared object store are read-only; torch warns, but nothing writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.from_numpy(values)


def _channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values
