"""Data sets as values: a training and a validation part, and a test part that stays sealed.

Knows arrays only: neither where they came from nor what is trained on them. Loads no torch.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from search_spaces.task import Task
from workers.data.preprocessing import Preprocessing
from workers.data.spec import DataSpec


class DataError(ValueError):
    """Data that cannot be trained on: says which, why, and what would do."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Examples of one part, in a fixed order."""

    inputs: Mapping[str, NDArray[Any]]
    """One array by stream name, examples first: (N, channels, height, width) for images, in bytes;
    what is no picture is float32."""
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
                arrays[f"{part}.inputs.{name}"] = values
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any]) -> Self:
        """The data set that `to_arrays` took apart, on the very same memory."""
        train, validation = (
            Split(
                inputs={
                    key.removeprefix(f"{part}.inputs."): values
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


def split_data(raw: RawData, spec: DataSpec) -> Dataset:
    """Cut a source into the parts that a spec asks for, every class in proportion.

    The test part is drawn before the others, so that another share for validation does not
    move examples out of it.

    Raises:
        DataError: A part would be empty or larger than what there is.
    """
    _check(raw, spec)
    rest = taken = limited(raw.pool.targets, spec, raw.class_names)
    pooled = len(taken)
    test, validation = raw.test, raw.validation
    if test is None:
        count = _count(spec.test, pooled, "test")
        chosen, rest = _draw(raw.pool.targets, rest, count, [spec.split_seed, 1])
        test = raw.pool.take(chosen)
    if validation is None:
        count = _count(spec.validation, pooled, "validation")
        if count >= len(rest):
            raise DataError(
                f"data.split.validation asks for {count} of {len(rest)} examples: "
                "none is left to train; ask for fewer"
            )
        chosen, rest = _draw(raw.pool.targets, rest, count, [spec.split_seed, 2])
        validation = raw.pool.take(chosen)
    train = raw.pool.take(rest)
    _check_classes(raw, taken, train, spec)
    return Dataset(
        train=train,
        validation=validation,
        task=task_of(train, len(raw.class_names)),
        digest=_digest((train, validation, test), (*raw.class_names, *raw.value_names)),
        class_names=raw.class_names,
        value_names=raw.value_names,
        preprocessing=raw.preprocessing or _as_they_are(train),
        sealed_test=test,
    )


def limited(
    targets: NDArray[np.int64], spec: DataSpec, class_names: tuple[str, ...]
) -> NDArray[np.int64]:
    """Positions of the examples that `spec.limit` leaves, every class in proportion.

    For sources that would rather not read the others.

    Raises:
        DataError: It leaves none of a class.
    """
    everything: NDArray[np.int64] = np.arange(len(targets), dtype=np.int64)
    if spec.limit is None or spec.limit >= len(targets):
        return everything
    drawn, _ = _draw(targets, everything, max(0, spec.limit), [spec.split_seed, 0])
    if lost := [class_names[label] for label in set(targets) - set(targets[drawn])]:
        raise DataError(
            f"data.limit: {spec.limit} of {len(targets)} examples leave none of class "
            f"{listed(lost)}; there are {len(class_names)} classes: raise the limit"
        )
    return drawn


def listed(names: Iterable[str]) -> str:
    """The first few of many names, quoted, and how many more there are."""
    ordered = sorted(names)
    more = f" and {len(ordered) - 5} more" if len(ordered) > 5 else ""
    return ", ".join(map(repr, ordered[:5])) + more


def check_names(where: Path, names: Iterable[str]) -> None:
    """Refuse names of classes that people could not tell apart.

    Raises:
        DataError: Two differ in case only, or one cannot be printed.
    """
    folded: dict[str, str] = {}
    for name in names:
        if not name.isprintable():
            raise DataError(f"{where}: the class name {name!r} cannot be printed; rename it")
        other = folded.get(name.casefold())
        if other is not None:
            differ = "are the same" if other == name else "differ in upper and lower case only"
            raise DataError(f"{where}: classes {other!r} and {name!r} {differ}; merge or rename")
        folded[name.casefold()] = name


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


def _check_classes(raw: RawData, taken: NDArray[np.int64], train: Split, spec: DataSpec) -> None:
    """Refuse classes that cannot be both learnt and judged."""
    if not raw.class_names:
        return
    there = np.bincount(raw.pool.targets[taken], minlength=len(raw.class_names))
    learnt = np.bincount(train.targets, minlength=len(raw.class_names))
    split_off = raw.validation is None or raw.test is None
    lost = np.flatnonzero((there > 0) & (learnt == 0) | (there == 1) & split_off)
    if len(lost):
        way_out = "" if spec.limit is None else "raise data.limit, "
        raise DataError(
            f"too few examples to split (at most {there[lost].max()} each) of class "
            f"{listed(raw.class_names[label] for label in lost)}: {way_out}add some, "
            "remove the class, or ask for smaller parts (data.split)"
        )


def _check(raw: RawData, spec: DataSpec) -> None:
    for part in (raw.pool, raw.validation, raw.test):
        if part is not None:
            _check_numbers(part)
            _check_labels(part, raw.class_names)
    if len(raw.class_names) < 2 and raw.pool.values is None:
        raise DataError("the data set has one class only: nothing to tell apart")
    if spec.limit is not None and spec.limit < 1:
        raise DataError(f"data.limit must be at least 1, not {spec.limit}")


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


def _count(wanted: float, total: int, part: str) -> int:
    """Examples meant by a share below 1 or a count."""
    if not 0 < wanted < float("inf"):
        raise DataError(f"data.split.{part} must be a share below 1 or a count, not {wanted}")
    if wanted >= 1 and wanted != int(wanted):
        raise DataError(f"data.split.{part}: {wanted} is neither a share below 1 nor a count")
    count = round(wanted * total) if wanted < 1 else int(wanted)
    if not 1 <= count < total:
        raise DataError(f"data.split.{part} means {count} of {total} examples: a part is empty")
    return count


def _draw(
    targets: NDArray[np.int64], among: NDArray[np.int64], count: int, seed: list[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw `count` positions, each class in proportion: the drawn and the rest, both shuffled."""
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(among)
    classes, members = np.unique(targets[shuffled], return_counts=True)
    exact = members * (count / len(shuffled))
    quota = np.floor(exact).astype(np.int64)
    # The largest remainders get what rounding down left over; the sort is stable, hence repeatable.
    missing = count - int(quota.sum())
    quota[np.argsort(quota - exact, kind="stable")[:missing]] += 1
    drawn = np.zeros(len(shuffled), dtype=bool)
    for label, taken in zip(classes, quota, strict=True):
        drawn[np.flatnonzero(targets[shuffled] == label)[:taken]] = True
    return shuffled[drawn], shuffled[~drawn]


def _digest(parts: tuple[Split, ...], names: tuple[str, ...]) -> str:
    digest = hashlib.sha256(repr(names).encode())
    for part in parts:
        for name in sorted(part.inputs):
            values = np.ascontiguousarray(part.inputs[name])
            digest.update(f"{name} {values.dtype.str} {values.shape}".encode())
            digest.update(values.data)
        digest.update(part.targets.astype("<i8").data)
        if part.values is not None:
            digest.update(np.ascontiguousarray(part.values, dtype="<f4").data)
    return digest.hexdigest()
