"""Data sets as values: a training and a validation part, and a test part that stays sealed.

Knows arrays only: neither where they came from nor what is trained on them. Loads no torch.
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
from workers.data.split import count_of, draw

__all__ = [
    "DataError",
    "Dataset",
    "RawData",
    "Split",
    "check_names",
    "format_names",
    "limited",
    "split_data",
    "task_of",
]

_MANY_CLASSES = 5
"""Of so many rare classes with numbers as names, the numbers are likely amounts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, weakref_slot=True)
class Split:
    """Examples of one part, in a fixed order."""

    inputs: Mapping[str, NDArray[Any]]
    """One array by stream name, examples first: (N, channels, height, width) for images, in bytes
    or, where these would lose something, float32, as all that is no image."""
    targets: NDArray[np.int64]
    """Class of each example, (N,); all zero where nothing is classified."""
    values: NDArray[np.float32] | None = None
    """Numbers to be foretold, (N, V), in the data's units; None where there are none."""

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, chosen: NDArray[np.int64]) -> "Split":
        """The examples at these positions, in this order."""
        return Split(
            inputs={name: array[chosen] for name, array in self.inputs.items()},
            targets=self.targets[chosen],
            values=None if self.values is None else self.values[chosen],
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """What the candidates of a study are trained and judged on."""

    train: Split
    """Learnt from."""
    validation: Split
    """Judged on while searching."""
    task: Task
    """The shapes and the number of classes that a network must serve."""
    digest: str
    """SHA-256 over all parts' arrays, the split and the class names."""
    class_names: tuple[str, ...]
    """What people call each class."""
    value_names: tuple[str, ...] = ()
    """What people call each number to be foretold."""
    preprocessing: Preprocessing | None = None
    """How a file becomes an input; None where the inputs are no images."""
    skipped_files: tuple[str, ...] = ()
    """Files and arrays of the source that are not read."""
    notes: tuple[str, ...] = ()
    """What a user should know of how the source was read."""
    sealed_test: Split | None = field(default=None, repr=False)
    """Read it by `open_test` alone; None where it was left behind."""

    def open_test(self) -> Split:
        """The sealed examples: whoever opens them has finished choosing.

        Raises:
            DataError: This copy was made for a worker, which has no business with them.
        """
        if self.sealed_test is None:
            raise DataError("the test part is not carried to workers: load the data set anew")
        return self.sealed_test

    def to_arrays(self) -> dict[str, Any]:
        """Arrays and plain values for a shared object store; the test part stays behind."""
        arrays: dict[str, Any] = {
            "digest": self.digest,
            "class_names": list(self.class_names),
            "value_names": list(self.value_names),
            "num_classes": self.task.num_classes,
            "preprocessing": self.preprocessing and self.preprocessing.to_dict(),
        }
        for part, split in (("train", self.train), ("validation", self.validation)):
            arrays[f"{part}.targets"] = split.targets
            arrays[f"{part}.values"] = split.values
            for name, values in split.inputs.items():
                # As the memory is laid out: an object store keeps no other order.
                arrays[f"{part}.inputs.{name}"] = _channels_at(values, 1, -1)
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """The data set that `to_arrays` took apart, on the very same memory."""
        train, validation = (
            Split(
                inputs={
                    key.removeprefix(f"{part}.inputs."): _channels_at(values, -1, 1)
                    for key, values in arrays.items()
                    if key.startswith(f"{part}.inputs.")
                },
                targets=arrays[f"{part}.targets"],
                values=arrays[f"{part}.values"],
            )
            for part in ("train", "validation")
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
    """All that a source holds, before anything is split off."""

    pool: Split
    """Examples that training and validation are drawn from."""
    class_names: tuple[str, ...]
    """What people call each class; empty where nothing is classified."""
    value_names: tuple[str, ...] = ()
    """What people call each number to be foretold; empty where there are none."""
    validation: Split | None = None
    """The source's own validation part; None: one is split off the pool."""
    test: Split | None = None
    """The source's own test part; None: one is split off the pool."""
    preprocessing: Preprocessing | None = None
    """What was done to the images; None: they were bytes of this shape before."""
    skipped_files: tuple[str, ...] = ()
    """Files and arrays that are not read."""
    notes: tuple[str, ...] = ()
    """What a user should know of how the source was read."""

    @property
    def own_parts(self) -> frozenset[str]:
        """The parts that the source brings beside the pool."""
        parts = {"validation": self.validation, "test": self.test}
        return frozenset(part for part, split in parts.items() if split is not None)


def split_data(raw: RawData, spec: DataSpec) -> Dataset:
    """Cut a source into the parts that a spec asks for, every class in proportion.

    Each class is in every part at least once. The test part is drawn before the others, so that
    another share for validation does not move examples out of it.

    Raises:
        DataError: A part would be empty, lack a class, or be larger than what there is.
    """
    _check(raw)
    taken = limited(raw.pool.targets, spec, raw.class_names, own=raw.own_parts)
    _check_classes(raw, taken, spec)
    train, validation, test = _parts(raw, spec, taken)
    digest = _digest((train, validation, test), (*raw.class_names, *raw.value_names))
    if raw.validation is not None:
        # Not in the digest: which examples there are is the same. Files come sorted by class, and
        # loss terms that compare examples would be judged on batches of one class.
        order = np.random.default_rng([spec.split.seed, 3]).permutation(len(validation))
        validation = validation.take(order)
    prepared = raw.preprocessing or _as_they_are(train)
    return Dataset(
        train=_channels_last(train),
        validation=_channels_last(validation),
        task=task_of(train, len(raw.class_names)),
        digest=digest,
        class_names=raw.class_names,
        value_names=raw.value_names,
        preprocessing=prepared and prepared.fitted(train.inputs["image"]),
        skipped_files=raw.skipped_files,
        notes=(*raw.notes, *_part_notes(raw, spec)),
        sealed_test=test,
    )


def _parts(raw: RawData, spec: DataSpec, taken: NDArray[np.int64]) -> tuple[Split, Split, Split]:
    """Training, validation and test part; what the source has of its own is used whole.

    Raises:
        DataError: A part would be empty or larger than what there is.
    """
    targets, rest = raw.pool.targets, taken
    test, validation = raw.test, raw.validation
    if test is None:
        count = count_of(spec.split.test, targets[taken], "test")
        keep = 1 if validation else 2
        chosen, rest = draw(targets, rest, count, [spec.split.seed, 1], keep=keep)
        test = raw.pool.take(chosen)
    if validation is None:
        count = count_of(spec.split.validation, targets[taken], "validation")
        if count >= len(rest):
            raise DataError(
                f"data.split.validation asks for {count} of {len(rest)} examples: "
                "none is left to train; ask for fewer"
            )
        chosen, rest = draw(targets, rest, count, [spec.split.seed, 2], keep=1)
        validation = raw.pool.take(chosen)
    return raw.pool.take(rest), validation, test


def limited(
    targets: NDArray[np.int64],
    spec: DataSpec,
    class_names: tuple[str, ...],
    *,
    own: Container[str],
) -> NDArray[np.int64]:
    """Positions of the examples that `spec.limit` leaves, every class in proportion.

    For sources that would rather not read the others.

    Args:
        targets: Class of each example.
        spec: Limit and seed.
        class_names: What people call each class.
        own: Parts that the source has; a rare class is left one example for each other part.

    Raises:
        DataError: It leaves none of a class.
    """
    everything: NDArray[np.int64] = np.arange(len(targets), dtype=np.int64)
    if spec.limit is None or spec.limit >= len(targets):
        return everything
    count, seed = max(0, spec.limit), [spec.split.seed, 0]
    drawn, _ = draw(targets, everything, count, seed, least=_parts_of_pool(own))
    lost = np.setdiff1d(targets, targets[drawn])
    if len(lost):
        raise DataError(
            f"data.limit: {spec.limit} of {len(targets)} examples leave none of class "
            f"{format_names(class_names[label] for label in lost)}; "
            f"there are {len(class_names)} classes: raise the limit"
        )
    return drawn


def _parts_of_pool(own: Container[str]) -> int:
    """How many parts are drawn from the pool, training included."""
    return 1 + sum(part not in own for part in ("validation", "test"))


def _part_notes(raw: RawData, spec: DataSpec) -> Iterator[str]:
    """What a user should know of the parts that the source has of its own."""
    own = {"validation": raw.validation, "test": raw.test}
    for part, split in own.items():
        if split is None:
            continue
        there = np.bincount(split.targets, minlength=len(raw.class_names))
        lacking = [name for name, count in zip(raw.class_names, there, strict=False) if not count]
        if lacking:
            yield f"the {part} part has no example of class {format_names(lacking)}"
        if spec.limit is not None and spec.limit <= len(raw.pool):
            yield f"data.limit is for training; all {len(split):,} of the {part} part are used"


def _check_classes(raw: RawData, taken: NDArray[np.int64], spec: DataSpec) -> None:
    """Refuse classes that cannot be both learnt and judged."""
    if not raw.class_names:
        return
    there = np.bincount(raw.pool.targets[taken], minlength=len(raw.class_names))
    parts = _parts_of_pool(raw.own_parts)
    lost = np.flatnonzero((there > 0) & (there < parts))
    if len(lost):
        names = [raw.class_names[label] for label in lost]
        way_out = "" if spec.limit is None else "raise data.limit, "
        amounts = len(lost) > _MANY_CLASSES and all(_is_number(name) for name in names)
        raise DataError(
            f"too few examples to split (at most {there[lost].max()} each) of class "
            f"{format_names(names)}, which need {parts}, one for each part: {way_out}add some or "
            "remove the class"
            + (", or call the array 'values' if these are amounts" if amounts else "")
        )


def _is_number(name: str) -> bool:
    return name.lstrip("-").replace(".", "", 1).isdecimal()


def task_of(split: Split, num_classes: int) -> Task:
    """What a network must serve to answer for these examples."""
    return Task(
        inputs={name: tuple(values.shape[1:]) for name, values in split.inputs.items()},
        num_classes=num_classes,
        num_values=0 if split.values is None else split.values.shape[1],
    )


def _as_they_are(split: Split) -> Preprocessing | None:
    """What images that were bytes from the start are prepared like."""
    image = split.inputs.get("image")
    if image is None or image.ndim != 4 or image.dtype != np.uint8:
        return None
    shape = image.shape[1:]
    return Preprocessing(channels=shape[0], height=shape[1], width=shape[2])


def _channels_last(split: Split) -> Split:
    """The same part with the memory of images as convolutions read it, their channels last."""
    inputs = {
        name: _channels_at(np.ascontiguousarray(_channels_at(values, 1, -1)), -1, 1)
        for name, values in split.inputs.items()
    }
    return replace(split, inputs=inputs)


def _channels_at(values: NDArray[Any], source: int, target: int) -> NDArray[Any]:
    """Images with their channels at another dimension, on the same memory."""
    return np.moveaxis(values, source, target) if values.ndim == 4 else values


def _check(raw: RawData) -> None:
    """Refuse sources that nothing can be learnt from.

    Raises:
        DataError: Arrays and labels do not go together, or there is one class only.
    """
    for part in (raw.pool, raw.validation, raw.test):
        if part is not None:
            _check_numbers(part)
            _check_labels(part, raw.class_names)
    if len(raw.class_names) < 2 and raw.pool.values is None:
        raise DataError("the data set has one class only: nothing to tell apart")


def _check_numbers(part: Split) -> None:
    if len(part) == 0:
        raise DataError("the data set holds no examples")
    numbers = dict(part.inputs)
    if part.values is not None:
        numbers["the numbers to foretell"] = part.values
    for name, values in numbers.items():
        if len(values) != len(part):
            raise DataError(f"{len(values)} examples of {name!r} but {len(part)} labels")
        if values.dtype != np.uint8 and not np.isfinite(values).all():
            raise DataError(f"{name!r} holds NaN or infinity; remove those examples")


def _check_labels(part: Split, class_names: tuple[str, ...]) -> None:
    if part.targets.min() < 0 or part.targets.max() >= max(1, len(class_names)):
        raise DataError(
            f"labels reach from {part.targets.min()} to {part.targets.max()}, "
            f"but there are {len(class_names)} classes"
        )


def _digest(parts: tuple[Split, ...], names: tuple[str, ...]) -> str:
    """SHA-256 over the examples of all parts and the names of classes and numbers."""
    found = hashlib.sha256(repr(names).encode())
    for part in parts:
        for name in sorted(part.inputs):
            values = np.ascontiguousarray(part.inputs[name])
            found.update(f"{name} {values.dtype.str} {values.shape}".encode())
            found.update(values.data)
        found.update(part.targets.astype("<i8").data)
        if part.values is not None:
            found.update(np.ascontiguousarray(part.values, dtype="<f4").data)
    return found.hexdigest()
