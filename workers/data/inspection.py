"""Inspection of user data: its source, sizes, classes, duplicates and remarks.

Reads as much as fits into memory and writes nothing.
"""

import hashlib
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from workers.data import arrays, folder, idx, images
from workers.data.array_files import find
from workers.data.dataset import DataError, RawData, Split
from workers.data.images import Header
from workers.data.limits import max_array_bytes
from workers.data.spec import DataSpec

COPIES = 6
"""Copies of the examples in memory while a study runs: splits, object store, workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Minimum, median and maximum of integers."""

    least: int
    median: int
    most: int

    @classmethod
    def of(cls, values: Sequence[int]) -> "Spread":
        """Return the spread of at least one number."""
        return cls(least=min(values), median=statistics.median_low(values), most=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Counts of examples that are equal after preprocessing."""

    within: Mapping[str, int]
    """By split: number of repeats within it."""
    between: Mapping[tuple[str, str], int]
    """By two splits: number of examples of the second that the first contains."""
    contradicting: int
    """Number of duplicates whose class differs from the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Result of an inspection."""

    spec: DataSpec
    """Data section for a study; its limit is what fits into memory, or None."""
    examples: Mapping[str, int]
    """Number of examples by split."""
    heights: Spread | None
    """Heights before resizing; None for examples that are not images."""
    widths: Spread | None
    classes: Mapping[str, Mapping[str, int]]
    """Number of examples by class and split; empty without classes."""
    numbers: Mapping[str, tuple[float, float, float]]
    """Minimum, mean and maximum of each regression target over the training examples."""
    duplicates: Duplicates
    raw: RawData
    """Examples, up to the limit."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one prepared example."""
        (examples,) = self.raw.pool.inputs.values()
        return examples.shape[1:]

    @property
    def imbalance(self) -> float:
        """Size of the largest training class over that of the smallest."""
        counts = [given["train"] for given in self.classes.values() if given["train"]]
        return max(counts, default=1) / min(counts, default=1)


def inspect(path: Path) -> Inspection:
    """Inspect a folder of images, arrays, or IDX files.

    Raises:
        DataError: There is nothing to train on, or something must be fixed first.
    """
    spec = DataSpec(source=_source(path), path=str(path))
    if spec.source == "folder":
        return _folder(spec, path)
    if spec.source == "npz":
        return _arrays(spec, arrays.load(find(path)))
    return _arrays(spec, idx.read(spec))


def _source(path: Path) -> str:
    """Return the source that reads this kind of data.

    Raises:
        DataError: No source reads it.
    """
    if path.is_file():
        if path.suffix.lower() in {".npz", ".npy"}:
            return "npz"
        raise DataError(
            f"{path} is a file of a kind that is not read; give a folder with one folder of "
            "images for each class, an .npz file, or a folder of .npy or IDX files"
        )
    try:
        names = {entry.name for entry in path.iterdir()}
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; grant yourself permission to read it"
        ) from error
    if not names:
        raise DataError(f"{path} is empty; it needs one folder of images per class")
    if any(name.startswith(("train-images", "train-labels")) for name in names):
        return "idx"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    packed = sorted(name for name in names if name.endswith(".npz"))
    if packed and not any((path / name).is_dir() for name in names):
        raise DataError(f"{path} contains arrays; give the file itself: {path / packed[0]}")
    return "folder"


def _folder(spec: DataSpec, path: Path) -> Inspection:
    found = folder.find(path)
    train = found.splits["train"]
    headers = {
        split: [each for each in images.headers(files.paths) if isinstance(each, Header)]
        for split, files in found.splits.items()
    }
    spec = replace(spec, limit=_limit(headers, len(train.paths)))
    raw = folder.load(found, folder.limited_to(found, spec))
    sizes = [header for given in headers.values() for header in given]
    return Inspection(
        spec=spec,
        examples={split: len(files.paths) for split, files in found.splits.items()},
        heights=Spread.of([header.height for header in sizes]),
        widths=Spread.of([header.width for header in sizes]),
        classes=_classes(
            found.class_names, {split: files.targets for split, files in found.splits.items()}
        ),
        numbers={},
        duplicates=_duplicates(_splits(raw)),
        raw=raw,
    )


def _arrays(spec: DataSpec, raw: RawData) -> Inspection:
    splits = _splits(raw)
    image = raw.pool.inputs.get("image")
    return Inspection(
        spec=spec,
        examples={name: len(split) for name, split in splits.items()},
        heights=None if image is None else Spread.of([image.shape[2]]),
        widths=None if image is None else Spread.of([image.shape[3]]),
        classes=_classes(raw.class_names, {name: split.targets for name, split in splits.items()}),
        numbers=_numbers(raw),
        duplicates=_duplicates(splits),
        raw=raw,
    )


def _limit(headers: Mapping[str, Sequence[Header]], count: int) -> int | None:
    """Return the number of training examples that fit into memory; None for all."""
    train = headers["train"]
    if not train:
        return None
    each = folder.preprocessing_of(train).num_bytes
    others = sum(len(given) for split, given in headers.items() if split != "train")
    fits = 2 * max_array_bytes() // (COPIES * each) - others
    return None if fits >= count else max(1, fits)


def _splits(raw: RawData) -> dict[str, Split]:
    given = {"train": raw.pool, "validation": raw.validation, "test": raw.test}
    return {name: split for name, split in given.items() if split is not None}


def _classes(
    names: Sequence[str], targets: Mapping[str, NDArray[np.int64]]
) -> dict[str, dict[str, int]]:
    counts = {split: np.bincount(given, minlength=len(names)) for split, given in targets.items()}
    return {
        name: {split: int(count[label]) for split, count in counts.items()}
        for label, name in enumerate(names)
    }


def _numbers(raw: RawData) -> dict[str, tuple[float, float, float]]:
    if raw.pool.values is None:
        return {}
    return {
        name: (float(column.min()), float(column.mean()), float(column.max()))
        for name, column in zip(raw.value_names, raw.pool.values.T, strict=True)
    }


def _duplicates(splits: Mapping[str, Split]) -> Duplicates:
    """Compare all examples by their hash."""
    first_class: dict[bytes, int] = {}
    counts: dict[str, Counter[bytes]] = {}
    contradicting = 0
    for name, split in splits.items():
        counts[name] = Counter()
        (examples,) = split.inputs.values()
        for example, target in zip(examples, split.targets, strict=True):
            content = hashlib.blake2b(example.tobytes(), digest_size=16).digest()
            counts[name][content] += 1
            contradicting += first_class.setdefault(content, int(target)) != target
    return Duplicates(
        within={name: sum(found.values()) - len(found) for name, found in counts.items()},
        between={
            (one, other): sum(
                count for content, count in counts[other].items() if content in counts[one]
            )
            for one, other in combinations(counts, 2)
        },
        contradicting=int(contradicting),
    )
