"""A look at somebody's data: what kind it is, what it holds, and what may surprise its owner.

Reads as much as fits into memory and writes nothing. Knows data, and no study.
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
"""How often the examples lie in memory while a study runs: parts, object store, workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Smallest, middle and largest of many numbers."""

    least: int
    median: int
    most: int

    @classmethod
    def of(cls, values: Sequence[int]) -> "Spread":
        """The spread of one number at least."""
        return cls(least=min(values), median=statistics.median_low(values), most=max(values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Examples that are the same, value by value, once they are prepared."""

    within: Mapping[str, int]
    """By part: how many repeat another of the same part."""
    between: Mapping[tuple[str, str], int]
    """By two parts: how many of the second stand in the first as well."""
    contradicting: int
    """Of all that are alike, how many differ in class from the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What was found."""

    spec: DataSpec
    """How a study reads this data; its limit is what fits into memory, or None."""
    examples: Mapping[str, int]
    """How many there are, by part."""
    heights: Spread | None
    """Before anything is resized; None where the examples are no images."""
    widths: Spread | None
    classes: Mapping[str, Mapping[str, int]]
    """How many examples of each class, by part; empty where nothing is classified."""
    numbers: Mapping[str, tuple[float, float, float]]
    """Least, mean and greatest of each number to be foretold, over the examples to train on."""
    duplicates: Duplicates
    raw: RawData
    """The examples themselves, up to the limit."""

    @property
    def shape(self) -> tuple[int, ...]:
        """One example as a network takes it."""
        (examples,) = self.raw.pool.inputs.values()
        return examples.shape[1:]

    @property
    def imbalance(self) -> float:
        """How many times the largest class to train on is as large as the smallest."""
        counts = [given["train"] for given in self.classes.values() if given["train"]]
        return max(counts, default=1) / min(counts, default=1)


def inspect(path: Path) -> Inspection:
    """Look at a folder of images, arrays, or IDX files.

    Raises:
        DataError: There is nothing to train on, or something in it must be mended first.
    """
    spec = DataSpec(source=_source(path), path=str(path))
    if spec.source == "folder":
        return _folder(spec, path)
    if spec.source == "npz":
        return _arrays(spec, arrays.load(find(path)))
    return _arrays(spec, idx.read(spec))


def _source(path: Path) -> str:
    """What reads this kind of data.

    Raises:
        DataError: Nothing does.
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
            f"{path} cannot be read: {error.strerror}; give yourself the right to read it"
        ) from error
    if not names:
        raise DataError(f"{path} is empty; it needs one folder of images for each class")
    if any(name.startswith(("train-images", "train-labels")) for name in names):
        return "idx"
    if any(name.endswith(".npy") for name in names):
        return "npz"
    packed = sorted(name for name in names if name.endswith(".npz"))
    if packed and not any((path / name).is_dir() for name in names):
        raise DataError(f"{path} holds arrays; give the file itself: {path / packed[0]}")
    return "folder"


def _folder(spec: DataSpec, path: Path) -> Inspection:
    found = folder.find(path)
    train = found.parts["train"]
    headers = {
        part: [each for each in images.headers(files.paths) if isinstance(each, Header)]
        for part, files in found.parts.items()
    }
    spec = replace(spec, limit=_limit(headers, len(train.paths)))
    raw = folder.load(found, folder.limited_to(found, spec))
    sizes = [header for given in headers.values() for header in given]
    return Inspection(
        spec=spec,
        examples={part: len(files.paths) for part, files in found.parts.items()},
        heights=Spread.of([header.height for header in sizes]),
        widths=Spread.of([header.width for header in sizes]),
        classes=_classes(
            found.class_names, {part: files.targets for part, files in found.parts.items()}
        ),
        numbers={},
        duplicates=_duplicates(_parts(raw)),
        raw=raw,
    )


def _arrays(spec: DataSpec, raw: RawData) -> Inspection:
    parts = _parts(raw)
    image = raw.pool.inputs.get("image")
    return Inspection(
        spec=spec,
        examples={part: len(split) for part, split in parts.items()},
        heights=None if image is None else Spread.of([image.shape[2]]),
        widths=None if image is None else Spread.of([image.shape[3]]),
        classes=_classes(raw.class_names, {part: split.targets for part, split in parts.items()}),
        numbers=_numbers(raw),
        duplicates=_duplicates(parts),
        raw=raw,
    )


def _limit(headers: Mapping[str, Sequence[Header]], count: int) -> int | None:
    """How many examples to train on fit into memory beside the other parts; None for all."""
    train = headers["train"]
    if not train:
        return None
    each = folder.preprocessing_of(train).num_bytes
    others = sum(len(given) for part, given in headers.items() if part != "train")
    fits = 2 * max_array_bytes() // (COPIES * each) - others
    return None if fits >= count else max(1, fits)


def _parts(raw: RawData) -> dict[str, Split]:
    given = {"train": raw.pool, "validation": raw.validation, "test": raw.test}
    return {part: split for part, split in given.items() if split is not None}


def _classes(
    names: Sequence[str], targets: Mapping[str, NDArray[np.int64]]
) -> dict[str, dict[str, int]]:
    counts = {part: np.bincount(given, minlength=len(names)) for part, given in targets.items()}
    return {
        name: {part: int(count[label]) for part, count in counts.items()}
        for label, name in enumerate(names)
    }


def _numbers(raw: RawData) -> dict[str, tuple[float, float, float]]:
    if raw.pool.values is None:
        return {}
    return {
        name: (float(column.min()), float(column.mean()), float(column.max()))
        for name, column in zip(raw.value_names, raw.pool.values.T, strict=True)
    }


def _duplicates(parts: Mapping[str, Split]) -> Duplicates:
    """Compares all examples by their hash."""
    first_class: dict[bytes, int] = {}
    counts: dict[str, Counter[bytes]] = {}
    contradicting = 0
    for part, split in parts.items():
        counts[part] = Counter()
        (examples,) = split.inputs.values()
        for example, target in zip(examples, split.targets, strict=True):
            content = hashlib.blake2b(example.tobytes(), digest_size=16).digest()
            counts[part][content] += 1
            contradicting += first_class.setdefault(content, int(target)) != target
    return Duplicates(
        within={part: sum(found.values()) - len(found) for part, found in counts.items()},
        between={
            (one, other): sum(
                count for content, count in counts[other].items() if content in counts[one]
            )
            for one, other in combinations(counts, 2)
        },
        contradicting=int(contradicting),
    )
