"""Data sets as values: training split, validation split and held-out test set.

Plain arrays; loads no torch.
"""

import hashlib
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from search_spaces.task import Task
from workers.data.checks import DataError, check_names, format_names
from workers.data.preprocessing import Preprocessing
from workers.data.spec import DataSpec
from workers.data.split import sample_split, split_size

__all__ = [
    "DataError",
    "Dataset",
    "RawData",
    "Split",
    "as_pool",
    "check_names",
    "format_names",
    "limited",
    "split_data",
    "task_of",
]

_MANY_CLASSES = 5
"""More rare classes than this, all with numbers as names, are likely amounts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Split:
    """Examples of one split, in a fixed order."""

    inputs: Mapping[str, NDArray[Any]]
    """Array by stream name, examples first: (N, channels, height, width) for images, in bytes or,
    where these would lose precision, float32; all other inputs are float32."""
    targets: NDArray[np.int64]
    """Class index of each example, (N,); all zero without classes."""
    values: NDArray[np.float32] | None = None
    """Regression targets, (N, V), in the data's units; None without such targets."""

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, chosen: NDArray[np.int64]) -> "Split":
        """Return the examples at these positions, in this order."""
        return Split(
            inputs={name: array[chosen] for name, array in self.inputs.items()},
            targets=self.targets[chosen],
            values=None if self.values is None else self.values[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Splits that the candidates of a study are trained and evaluated on."""

    train: Split
    """Training split."""
    validation: Split
    """Validation split: trials are compared on it."""
    task: Task
    """Input shapes, number of classes and number of regression targets."""
    digest: str
    """SHA-256 over the arrays of all splits and the names of classes and targets."""
    class_names: tuple[str, ...]
    """Name of each class."""
    value_names: tuple[str, ...] = ()
    """Name of each regression target."""
    preprocessing: Preprocessing | None = None
    """Preprocessing of image files and arrays; None for inputs that are not images."""
    skipped_files: tuple[str, ...] = ()
    """Files and arrays of the source that are not read."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on how the source was read."""
    held_out_test: Split | None = field(default=None, repr=False)
    """Held-out test set, to be read by `open_test` alone; None in the copies of workers."""

    def open_test(self) -> Split:
        """Return the held-out test set; only promotion opens it, after the trial is chosen.

        Raises:
            DataError: This is the copy of a worker, which does not contain it.
        """
        if self.held_out_test is None:
            raise DataError("the test set is not sent to workers: load the data set again")
        return self.held_out_test

    def to_arrays(self) -> dict[str, Any]:
        """Return arrays and plain values for a shared object store, without the test set."""
        arrays: dict[str, Any] = {
            "digest": self.digest,
            "class_names": list(self.class_names),
            "value_names": list(self.value_names),
            "num_classes": self.task.num_classes,
            "preprocessing": self.preprocessing and self.preprocessing.to_dict(),
        }
        for name, split in (("train", self.train), ("validation", self.validation)):
            arrays[f"{name}.targets"] = split.targets
            arrays[f"{name}.values"] = split.values
            for stream, values in split.inputs.items():
                # In memory order: an object store keeps no other.
                arrays[f"{name}.inputs.{stream}"] = _channels_at(values, 1, -1)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """Return the data set that `to_arrays` wrote, without copying memory."""
        train, validation = (
            Split(
                inputs={
                    key.removeprefix(f"{name}.inputs."): _channels_at(values, -1, 1)
                    for key, values in arrays.items()
                    if key.startswith(f"{name}.inputs.")
                },
                targets=arrays[f"{name}.targets"],
                values=arrays[f"{name}.values"],
            )
            for name in ("train", "validation")
        )
        preprocessing = arrays["preprocessing"]
        return cls(
            train=train,
            validation=validation,
            task=task_of(train, arrays["num_classes"]),
            digest=arrays["digest"],
            class_names=tuple(arrays["class_names"]),
            value_names=tuple(arrays["value_names"]),
            preprocessing=preprocessing and Preprocessing.from_dict(preprocessing),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawData:
    """Data of a source, before it is split."""

    pool: Split
    """Examples that the missing splits are sampled from."""
    class_names: tuple[str, ...]
    """Name of each class; empty without classes."""
    value_names: tuple[str, ...] = ()
    """Name of each regression target; empty without such targets."""
    validation: Split | None = None
    """Validation split of the source; None samples one from the pool."""
    test: Split | None = None
    """Test split of the source; None samples one from the pool."""
    preprocessing: Preprocessing | None = None
    """Preprocessing of the images; None if they were bytes of this shape before."""
    skipped_files: tuple[str, ...] = ()
    """Files and arrays that are not read."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on how the source was read."""

    @property
    def own_splits(self) -> frozenset[str]:
        """Splits that the source has in addition to the pool."""
        splits = {"validation": self.validation, "test": self.test}
        return frozenset(name for name, split in splits.items() if split is not None)


def as_pool(splits: Mapping[str, Split]) -> dict[str, Any]:
    """Return the splits of a source as arguments of RawData."""
    return {
        "pool": splits["train"],
        "validation": splits.get("validation"),
        "test": splits.get("test"),
    }


def split_data(raw: RawData, spec: DataSpec) -> Dataset:
    """Split a source as a spec requests, stratified by class.

    Each class is in every split at least once. The test set is sampled first, so that another
    validation fraction does not move examples out of it.

    Raises:
        DataError: A split would be empty, lack a class, or be larger than the source.
    """
    _check(raw)
    taken = limited(raw.pool.targets, spec, raw.class_names, own=raw.own_splits)
    _check_classes(raw, taken, spec)
    train, validation, test = _splits(raw, spec, taken)
    digest = _digest((train, validation, test), (*raw.class_names, *raw.value_names))
    if raw.validation is not None:
        # Not in the digest: the examples are the same. Files come sorted by class, and loss terms
        # that compare examples would be evaluated on batches of one class.
        order = np.random.default_rng([spec.split.seed, 3]).permutation(len(validation))
        validation = validation.take(order)
    prepared = raw.preprocessing or _byte_preprocessing(train)
    return Dataset(
        train=_channels_last(train),
        validation=_channels_last(validation),
        task=task_of(train, len(raw.class_names)),
        digest=digest,
        class_names=raw.class_names,
        value_names=raw.value_names,
        preprocessing=prepared and prepared.fitted(train.inputs["image"]),
        skipped_files=raw.skipped_files,
        notes=(*raw.notes, *_split_notes(raw, spec)),
        held_out_test=test,
    )


def _splits(raw: RawData, spec: DataSpec, taken: NDArray[np.int64]) -> tuple[Split, Split, Split]:
    """Return training, validation and test split; those of the source are used whole.

    Raises:
        DataError: A split would be empty or larger than the source.
    """
    targets, rest = raw.pool.targets, taken
    test, validation = raw.test, raw.validation
    if test is None:
        count = split_size(spec.split.test, targets[taken], "test")
        keep = 1 if validation else 2
        chosen, rest = sample_split(targets, rest, count, [spec.split.seed, 1], keep=keep)
        test = raw.pool.take(chosen)
    if validation is None:
        count = split_size(spec.split.validation, targets[taken], "validation")
        if count >= len(rest):
            raise DataError(
                f"data.split.validation takes {count} of {len(rest)} examples: "
                "none is left to train on; take fewer"
            )
        chosen, rest = sample_split(targets, rest, count, [spec.split.seed, 2], keep=1)
        validation = raw.pool.take(chosen)
    return raw.pool.take(rest), validation, test


def limited(
    targets: NDArray[np.int64],
    spec: DataSpec,
    class_names: tuple[str, ...],
    *,
    own: Container[str],
) -> NDArray[np.int64]:
    """Return the positions of the examples that `spec.limit` keeps, stratified by class.

    Sources that read one file per example call it first and skip the others.

    Args:
        targets: Class of each example, (N,).
        spec: Limit and seed.
        class_names: Name of each class.
        own: Splits that the source has; a rare class keeps one example for each other split.

    Raises:
        DataError: A class would have no example.
    """
    everything: NDArray[np.int64] = np.arange(len(targets), dtype=np.int64)
    if spec.limit is None or spec.limit >= len(targets):
        return everything
    count, seed = max(0, spec.limit), [spec.split.seed, 0]
    kept, _ = sample_split(targets, everything, count, seed, least=_splits_of_pool(own))
    lost = np.setdiff1d(targets, targets[kept])
    if len(lost):
        raise DataError(
            f"data.limit: {spec.limit} of {len(targets)} examples have none of class "
            f"{format_names(class_names[label] for label in lost)}; "
            f"there are {len(class_names)} classes: raise the limit"
        )
    return kept


def _splits_of_pool(own: Container[str]) -> int:
    """Return the number of splits that the pool gives, training included."""
    return 1 + sum(name not in own for name in ("validation", "test"))


def _split_notes(raw: RawData, spec: DataSpec) -> Iterator[str]:
    """Yield remarks on the splits that the source has."""
    own = {"validation": raw.validation, "test": raw.test}
    for name, split in own.items():
        if split is None:
            continue
        there = np.bincount(split.targets, minlength=len(raw.class_names))
        classes = zip(raw.class_names, there, strict=False)
        if missing := [label for label, count in classes if not count]:
            yield f"the {name} split has no example of class {format_names(missing)}"
        if spec.limit is not None and spec.limit <= len(raw.pool):
            yield f"data.limit is for training; all {len(split):,} of the {name} split are used"


def _check_classes(raw: RawData, taken: NDArray[np.int64], spec: DataSpec) -> None:
    """Refuse classes with too few examples for every split."""
    if not raw.class_names:
        return
    there = np.bincount(raw.pool.targets[taken], minlength=len(raw.class_names))
    splits = _splits_of_pool(raw.own_splits)
    lost = np.flatnonzero((there > 0) & (there < splits))
    if len(lost):
        names = [raw.class_names[label] for label in lost]
        fix = "" if spec.limit is None else "raise data.limit, "
        amounts = len(lost) > _MANY_CLASSES and all(_is_number(name) for name in names)
        raise DataError(
            f"too few examples to split (at most {there[lost].max()} each) of class "
            f"{format_names(names)}, which need {splits}, one per split: {fix}add some or "
            "remove the class"
            + (", or call the array 'values' if these are amounts" if amounts else "")
        )


def _is_number(name: str) -> bool:
    return name.lstrip("-").replace(".", "", 1).isdecimal()


def task_of(split: Split, num_classes: int) -> Task:
    """Return the task of a network for these examples."""
    return Task(
        inputs={name: tuple(values.shape[1:]) for name, values in split.inputs.items()},
        num_classes=num_classes,
        num_values=0 if split.values is None else split.values.shape[1],
    )


def _byte_preprocessing(split: Split) -> Preprocessing | None:
    """Return the preprocessing of images that were bytes from the start; None for other inputs."""
    image = split.inputs.get("image")
    if image is None or image.ndim != 4 or image.dtype != np.uint8:
        return None
    shape = image.shape[1:]
    return Preprocessing(channels=shape[0], height=shape[1], width=shape[2])


def _channels_last(split: Split) -> Split:
    """Return the split with the memory layout of images channels-last, as convolutions read it."""
    inputs = {
        name: _channels_at(np.ascontiguousarray(_channels_at(values, 1, -1)), -1, 1)
        for name, values in split.inputs.items()
    }
    return replace(split, inputs=inputs)


def _channels_at(values: NDArray[Any], source: int, target: int) -> NDArray[Any]:
    """Return images with their channels at another dimension, without a copy."""
    return np.moveaxis(values, source, target) if values.ndim == 4 else values


def _check(raw: RawData) -> None:
    """Validate the arrays of a source.

    Raises:
        DataError: Arrays and labels do not match, or there is one class only.
    """
    for split in (raw.pool, raw.validation, raw.test):
        if split is not None:
            _check_numbers(split)
            _check_labels(split, raw.class_names)
    if len(raw.class_names) < 2 and raw.pool.values is None:
        raise DataError("the data set has only one class: a classifier needs at least two")


def _check_numbers(split: Split) -> None:
    if len(split) == 0:
        raise DataError("the data set contains no examples")
    numbers = dict(split.inputs)
    if split.values is not None:
        numbers["the regression targets"] = split.values
    for name, values in numbers.items():
        if len(values) != len(split):
            raise DataError(f"{len(values)} examples of {name!r} but {len(split)} labels")
        if values.dtype != np.uint8 and not np.isfinite(values).all():
            raise DataError(f"{name!r} contains NaN or infinity; remove those examples")


def _check_labels(split: Split, class_names: tuple[str, ...]) -> None:
    if split.targets.min() < 0 or split.targets.max() >= max(1, len(class_names)):
        raise DataError(
            f"labels range from {split.targets.min()} to {split.targets.max()}, "
            f"but there are {len(class_names)} classes"
        )


def _digest(splits: tuple[Split, ...], names: tuple[str, ...]) -> str:
    """Return the SHA-256 over the examples of all splits and the names of classes and targets."""
    found = hashlib.sha256(repr(names).encode())
    for split in splits:
        for name in sorted(split.inputs):
            values = np.ascontiguousarray(split.inputs[name])
            found.update(f"{name} {values.dtype.str} {values.shape}".encode())
            found.update(values.data)
        found.update(split.targets.astype("<i8").data)
        if split.values is not None:
            found.update(np.ascontiguousarray(split.values, dtype="<f4").data)
    return found.hexdigest()
