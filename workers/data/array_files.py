"""Which arrays lie in an `.npz` file or a folder of `.npy` files, and what each is for, by name.

`x` (or images, inputs, features, ...) holds examples, `y` (or labels, targets, ...) classes or
numbers, `values` numbers to be foretold, also beside classes; `_train`, `_val` and `_test` after a
name say which part it is. `class_names` and `value_names` say what people call them.
"""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from workers.data.dataset import DataError, format_names
from workers.data.folder import PARTS
from workers.data.npy import read_array, told

_INPUTS = frozenset({"x", "image", "images", "data", "input", "inputs", "features"})
_TARGETS = frozenset({"y", "label", "labels", "target", "targets"})
_VALUES = frozenset({"value", "values", "numbers"})
_NAMES = frozenset({"class_names", "classes", "label_names", "target_names"})
_VALUE_NAMES = "value_names"
_WANTED = (
    "it needs x and y (or images and labels), or x_train and y_train, "
    "and perhaps the same with _val and _test; numbers to foretell beside classes are values"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayFiles:
    """Which arrays there are, by what they are for."""

    path: Path
    inputs: Mapping[str, str]
    """Name of the array of examples, by part."""
    targets: Mapping[str, str]
    """Name of the array of labels, by part; empty where there are numbers alone."""
    values: Mapping[str, str]
    """Name of the array of numbers to foretell, by part; empty where there is none."""
    class_names: str | None
    """Name of the array that holds what classes are called."""
    value_names: str | None
    """Name of the array that holds what the numbers are called."""
    ignored: tuple[str, ...]
    """Arrays and files that mean nothing here."""
    read: Callable[[str], NDArray[Any]]
    """Reads an array by name."""


def find(path: Path) -> ArrayFiles:
    """Which arrays lie there, by name alone.

    Raises:
        DataError: None do, or their names do not say what they are for.
    """
    if path.is_dir():
        files = {each.stem: each for each in sorted(path.glob("*.npy"))}
        others = [each.name for each in sorted(path.iterdir()) if each not in files.values()]

        def from_folder(name: str) -> NDArray[Any]:
            with told(files[name]), files[name].open("rb") as file:
                return read_array(file, files[name].stat().st_size)

        return _sorted(path, list(files), others, from_folder)
    if path.suffix == ".npy":
        raise DataError(
            f"{path} is one array; give the folder that holds x.npy and y.npy, or an .npz file"
        )
    if not path.is_file():
        raise DataError(f"{path} is not there; give an .npz file, or a folder of .npy files")
    with told(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]

    def from_archive(name: str) -> NDArray[Any]:
        with told(path, name), zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{name}.npy")
            if member.flag_bits & 1:
                raise DataError("is encrypted; save it without a password")
            with archive.open(member) as file:
                return read_array(file, member.file_size)

    return _sorted(path, names, [], from_archive)


def _sorted(
    path: Path, names: list[str], others: list[str], reader: Callable[[str], NDArray[Any]]
) -> ArrayFiles:
    """Tells arrays apart by the words in their names."""
    kinds: dict[frozenset[str], dict[str, str]] = {_INPUTS: {}, _TARGETS: {}, _VALUES: {}}
    class_names = None
    ignored = list(others)
    for name in names:
        words = name.lower().split("_")
        parts = [PARTS[word] for word in words if word in PARTS]
        rest = [word for word in words if word not in PARTS]
        role = rest[0] if len(rest) == 1 and len(parts) < 2 else ""
        kind = next((kinds[meant] for meant in kinds if role in meant), None)
        part = parts[0] if parts else ""
        if name.lower() in _NAMES:
            class_names = name
        elif kind is None:
            ignored.append(name)
        elif part in kind:
            raise DataError(f"{path}: {kind[part]!r} and {name!r} mean the same; remove one")
        else:
            kind[part] = name
    _check_parts(path, kinds[_INPUTS], names)
    given = [answers for answers in (kinds[_TARGETS], kinds[_VALUES]) if answers]
    for answers in given or [{}]:
        _check_pairs(path, kinds[_INPUTS], answers, names)
    inputs, targets, values = (
        {part or "train": name for part, name in kind.items()} for kind in kinds.values()
    )
    value_names = next((name for name in ignored if name.lower() == _VALUE_NAMES), None)
    return ArrayFiles(
        path=path,
        inputs=inputs,
        targets=targets,
        values=values,
        class_names=class_names,
        value_names=value_names,
        ignored=tuple(sorted({*ignored} - {value_names})),
        read=reader,
    )


def _check_parts(path: Path, inputs: Mapping[str, str], names: list[str]) -> None:
    if "" in inputs and "train" in inputs:
        raise DataError(
            f"{path}: {inputs['']!r} and {inputs['train']!r} both are examples to train on; "
            "remove one"
        )
    if not {"", "train"} & set(inputs):
        there = f"holds {format_names(names)}" if names else "holds no arrays"
        raise DataError(f"{path} {there}; {_WANTED}")


def _check_pairs(
    path: Path, inputs: Mapping[str, str], answers: Mapping[str, str], names: list[str]
) -> None:
    if lonely := set(inputs) ^ set(answers):
        name = (dict(answers) | dict(inputs))[min(lonely)]
        raise DataError(
            f"{path}: {name!r} has no counterpart among {format_names(names)}; {_WANTED}"
        )
