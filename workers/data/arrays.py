"""Source `npz`: arrays of a user in one `.npz` file, or in a folder of `.npy` files.

Examples are images or vectors; their labels are classes, regression targets, or both.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data.array_files import ArrayFiles, find
from workers.data.checks import DataError, check_distinct
from workers.data.dataset import RawData, Split, as_pool
from workers.data.npy import error_location
from workers.data.preprocessing import (
    Preprocessing,
    array_dtype,
    prepare_arrays,
    prepare_vectors,
)
from workers.data.spec import DataSpec
from workers.data.targets import read_targets

_MAX_CHANNELS = 4
_MIN_LEVELS = 16
"""A channel with fewer distinct values in float32, but more before, has lost information."""
_SAMPLE = 4096
_OUTLYING = 1000
"""Range over interquartile range above which a column has outliers."""
_MIN_SPAN = 1e-36
_SHOWN = 3


def read(spec: DataSpec) -> RawData:
    """Read the arrays of a file or folder.

    Raises:
        DataError: They are missing, or training cannot use them.
    """
    if spec.path is None:
        raise DataError("data.path: source 'npz' needs the .npz file, or a folder of .npy files")
    return load(find(Path(spec.path).expanduser()))


def load(found: ArrayFiles) -> RawData:
    """Read the arrays found and prepare them in the shape and type of the training split.

    Raises:
        DataError: Training cannot use them.
    """
    labels = read_targets(found)
    splits: dict[str, Split] = {}
    notes = list(labels.notes)
    preprocessing: Preprocessing | None = None
    width = 0
    for split, name in sorted(found.inputs.items(), key=lambda item: item[0] != "train"):
        examples = found.read(name)
        with error_location(found.path, name):
            labels.check_count(split, len(examples))
            if split == "train" and examples.ndim == 2:
                width = int(examples.shape[1])
            elif split == "train":
                preprocessing = _preprocessing(examples)
            stream, prepared = (
                ("vector", prepare_vectors(examples, width))
                if preprocessing is None
                else ("image", prepare_arrays(examples, preprocessing))
            )
            lost = _precision_notes(name, examples, preprocessing)
            if split == "train":
                check_distinct(prepared, notes=lost)
                notes += _outlier_notes(name, prepared)
            notes += lost
        splits[split] = labels.split(split, {stream: prepared})
    return RawData(
        **as_pool(splits),
        class_names=labels.class_names,
        value_names=labels.value_names,
        preprocessing=preprocessing,
        skipped_files=found.ignored,
        notes=tuple(notes),
    )


def _preprocessing(values: NDArray[Any]) -> Preprocessing:
    """Return the preprocessing of the training images: their channels, size and type.

    Raises:
        DataError: These are not images.
    """
    if values.dtype.kind not in "buif":
        raise DataError(f"is of type {values.dtype}; examples must be numbers")
    shape = values.shape[1:]
    if len(shape) == 2 and min(shape) <= _MAX_CHANNELS < max(shape):
        steps, features = max(shape), min(shape)
        raise DataError(
            f"has the shape {values.shape}: {steps} steps of {features} features, or images of "
            f"{shape[0]} x {shape[1]}? Series are not read yet. Images need a dimension for the "
            f"channels: reshape({len(values)}, {shape[0]}, {shape[1]}, 1); as vectors, each number "
            f"is normalized by itself: reshape({len(values)}, {steps * features})"
        )
    if len(shape) == 2:
        channels, height, width = 1, *shape
    elif len(shape) == 3 and (shape[2] == 1 or shape[2] <= _MAX_CHANNELS < shape[1]):
        height, width, channels = shape
    elif len(shape) == 3 and shape[0] <= _MAX_CHANNELS < shape[2]:
        channels, height, width = shape
    else:
        raise DataError(
            f"has the shape {values.shape}; images are (N, height, width), or with 1 to "
            f"{_MAX_CHANNELS} channels last or second, vectors (N, numbers): reshape them"
        )
    return Preprocessing(
        channels=channels, height=height, width=width, dtype=array_dtype(values)
    ).fitted(values)


def _precision_notes(name: str, values: NDArray[Any], images: Preprocessing | None) -> list[str]:
    """Return a note if float32 is too coarse for an array's values."""
    if values.dtype.itemsize <= 2 or values.dtype == np.float32:
        return []
    sample = values[:: max(1, len(values) // _SAMPLE)]
    if images is None:
        columns, what = sample, "number"
    else:
        channels_first = values.shape[1:] == (images.channels, images.height, images.width)
        columns = np.moveaxis(sample, 1, -1) if channels_first else sample
        columns, what = columns.reshape(-1, images.channels), "channel"
    columns = columns[:: max(1, len(columns) // _SAMPLE)]
    given, kept = _levels(columns), _levels(columns.astype(np.float32))
    poor = np.flatnonzero((kept < _MIN_LEVELS) & (kept < given))
    if not len(poor):
        return []
    return [
        f"{name!r} is too fine for float32: of {given[poor[0]]} values of {what} {poor[0]} "
        f"{kept[poor[0]]} are left ({len(poor)} of {len(kept)} {what}s); subtract a constant "
        "before you save it"
    ]


def _outlier_notes(name: str, prepared: NDArray[Any]) -> list[str]:
    """Return notes on channels whose scale is set by few values, such as markers of missing ones.

    Raises:
        DataError: Values are too small for float32.
    """
    if prepared.dtype == np.uint8:
        return []
    what = "channel" if prepared.ndim == 4 else "number"
    each = np.moveaxis(prepared, 1, 0)
    notes = []
    for index, values in enumerate(each):
        low, high = float(values.min()), float(values.max())
        if 0 < high - low < _MIN_SPAN:
            raise DataError(
                f"{what} {index} has values from {low:g} to {high:g}, too small for float32: "
                "give them in a smaller unit"
            )
        sample = values[:: max(1, len(values) // _SAMPLE)].reshape(-1)
        quarters = np.quantile(sample[:: max(1, len(sample) // _SAMPLE)], (0.25, 0.75))
        middle = float(quarters[1] - quarters[0])
        if high - low > _OUTLYING * middle > 0:
            notes.append(
                f"{what} {index} of {name!r} has values from {low:g} to {high:g}, half of them "
                f"within {middle:g}: outliers set its scale; clip them, replace markers of "
                "missing values, or take the logarithm"
            )
    return notes[:_SHOWN] + ([f"and {len(notes) - _SHOWN} more"] if len(notes) > _SHOWN else [])


def _levels(columns: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of distinct values of each column."""
    ordered = np.sort(columns, axis=0)
    levels: NDArray[np.int64] = 1 + (ordered[1:] != ordered[:-1]).sum(axis=0)
    return levels
