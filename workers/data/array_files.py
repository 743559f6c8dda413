"""Discovery of arrays in an `.npz` file or a folder of `.npy` files; their names give their roles.

`x` (or images, inputs, features, ...) contains examples, `y` (or labels, targets, ...) classes or
regression targets, `values` regression targets, also in addition to classes. The suffixes
`_train`, `_val` and `_test` name the split; `class_names` and `value_names` contain names.
"""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from workers.data.dataset import DataError, format_names
from workers.data.folder import SPLIT_NAMES
from workers.data.npy import error_location, read_array

_INPUTS = frozenset({"x", "image", "images", "data", "input", "inputs", "features"})
_TARGETS = frozenset({"y", "label", "labels", "target", "targets"})
_VALUES = frozenset({"value", "values", "numbers"})
_NAMES = frozenset({"class_names", "classes", "label_names", "target_names"})
_VALUE_NAMES = "value_names"
_WANTED = (
    "it needs x and y (or images and labels), or x_train and y_train, "
    "and optionally the same with _val and _test; regression targets in addition to classes are "
    "called values"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayFiles:
    """Arrays of a file or folder, by role and split."""

    path: Path
    inputs: Mapping[str, str]
    """Name of the array of examples, by split."""
    targets: Mapping[str, str]
    """Name of the array of labels, by split; empty without labels."""
    values: Mapping[str, str]
    """Name of the array of regression targets, by split; empty without such arrays."""
    class_names: str | None
    """Name of the array of class names; None without one."""
    value_names: str | None
    """Name of the array of the targets' names; None without one."""
    ignored: tuple[str, ...]
    """Arrays and files without a role."""
    read: Callable[[str], NDArray[Any]]
    """Reads an array by its name."""


def find(path: Path) -> ArrayFiles:
    """Find the arrays of a file or folder by their names.

    Args:
        path: An `.npz` file or a folder of `.npy` files.

    Raises:
        DataError: There are none, or their names do not give their roles.
    """
    if path.is_dir():
        files = {each.stem: each for each in sorted(path.glob("*.npy"))}
        others = [each.name for each in sorted(path.iterdir()) if each not in files.values()]

        def from_folder(name: str) -> NDArray[Any]:
            with error_location(files[name]), files[name].open("rb") as file:
                return read_array(file, files[name].stat().st_size)

        return _assign_roles(path, list(files), others, from_folder)
    if path.suffix == ".npy":
        raise DataError(
            f"{path} is one array; give the folder that contains x.npy and y.npy, or an .npz file"
        )
    if not path.is_file():
        raise DataError(f"{path} does not exist; give an .npz file, or a folder of .npy files")
    with error_location(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]

    def from_archive(name: str) -> NDArray[Any]:
        with error_location(path, name), zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{name}.npy")
            if member.flag_bits & 1:
                raise DataError("is encrypted; save it without a password")
            with archive.open(member) as file:
                return read_array(file, member.file_size)

    return _assign_roles(path, names, [], from_archive)


def _assign_roles(
    path: Path, names: list[str], others: list[str], reader: Callable[[str], NDArray[Any]]
) -> ArrayFiles:
    """Assign each array its role and split by the words in its name."""
    kinds: dict[frozenset[str], dict[str, str]] = {_INPUTS: {}, _TARGETS: {}, _VALUES: {}}
    class_names = None
    ignored = list(others)
    for name in names:
        words = name.lower().split("_")
        splits = [SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES]
        rest = [word for word in words if word not in SPLIT_NAMES]
        role = rest[0] if len(rest) == 1 and len(splits) < 2 else ""
        kind = next((kinds[meant] for meant in kinds if role in meant), None)
        split = splits[0] if splits else ""
        if name.lower() in _NAMES:
            class_names = name
        elif kind is None:
            ignored.append(name)
        elif split in kind:
            raise DataError(f"{path}: {kind[split]!r} and {name!r} have the same role; remove one")
        else:
            kind[split] = name
    _check_splits(path, kinds[_INPUTS], names)
    given = [labels for labels in (kinds[_TARGETS], kinds[_VALUES]) if labels]
    for labels in given or [{}]:
        _check_pairs(path, kinds[_INPUTS], labels, names)
    inputs, targets, values = (
        {split or "train": name for split, name in kind.items()} for kind in kinds.values()
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


def _check_splits(path: Path, inputs: Mapping[str, str], names: list[str]) -> None:
    if "" in inputs and "train" in inputs:
        raise DataError(
            f"{path}: {inputs['']!r} and {inputs['train']!r} are both training examples; remove one"
        )
    if not {"", "train"} & set(inputs):
        there = f"contains {format_names(names)}" if names else "contains no arrays"
        raise DataError(f"{path} {there}; {_WANTED}")


def _check_pairs(
    path: Path, inputs: Mapping[str, str], labels: Mapping[str, str], names: list[str]
) -> None:
    if unpaired := set(inputs) ^ set(labels):
        name = (dict(labels) | dict(inputs))[min(unpaired)]
        raise DataError(
            f"{path}: {name!r} has no counterpart among {format_names(names)}; {_WANTED}"
        )
