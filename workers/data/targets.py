"""Labels of array examples: classes, regression targets, or both.

Labels with fractions are regression targets. Integers are classes; integer regression targets
belong into an array called `values`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data.array_files import ArrayFiles
from workers.data.checks import DataError, check_names, to_nfc
from workers.data.dataset import Split
from workers.data.npy import error_location

_MANY_CLASSES = 20
_FEW_EACH = 20
"""More distinct integers than this, each in fewer examples, are likely amounts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """Labels of all splits."""

    class_names: tuple[str, ...]
    """Name of each class; empty without classes."""
    classes: Mapping[str, NDArray[np.int64]]
    """Class indices, (N,), by split."""
    value_names: tuple[str, ...]
    """Name of each regression target; empty without such targets."""
    values: Mapping[str, NDArray[np.float32]]
    """Regression targets, (N, V), by split."""
    class_arrays: Mapping[str, str]
    """Name of the array of the classes, by split."""
    value_arrays: Mapping[str, str]
    """Name of the array of the regression targets, by split."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on how the labels were read."""

    def check_count(self, split: str, count: int) -> None:
        """Refuse a split with another number of labels than examples.

        Raises:
            DataError: The numbers differ.
        """
        for labels, arrays in (
            (self.classes, self.class_arrays),
            (self.values, self.value_arrays),
        ):
            if split in labels and len(labels[split]) != count:
                raise DataError(
                    f"has {count} examples, but {arrays[split]!r} has "
                    f"{len(labels[split])} labels; each example needs one"
                )

    def split(self, name: str, inputs: Mapping[str, NDArray[Any]]) -> Split:
        """Return a split with its labels; the class of all is 0 without classes."""
        if name in self.classes:
            targets = self.classes[name]
        else:
            targets = np.zeros(len(self.values[name]), dtype=np.int64)
        return Split(inputs=inputs, targets=targets, values=self.values.get(name))


def read_targets(found: ArrayFiles) -> Targets:
    """Read classes and regression targets of every split.

    Raises:
        DataError: They are neither, or contradict each other.
    """
    labels = {split: _read(found, name) for split, name in found.targets.items()}
    numbers = {split: _read(found, name) for split, name in found.values.items()}
    amounts = [split for split, read in labels.items() if _has_fractions(read)]
    if amounts and numbers:
        name = found.targets[amounts[0]]
        raise DataError(
            f"{found.path}: {name!r} contains fractions, hence regression targets, and so does "
            f"{found.values[amounts[0]]!r}; put all targets into one array"
        )
    named = found.values if numbers else found.targets
    if amounts:
        labels, numbers = {}, labels
    values = {split: _numbers(found, named[split], read) for split, read in numbers.items()}
    class_names, classes = _classes(
        found,
        {split: _labels(found, found.targets[split], read) for split, read in labels.items()},
    )
    return Targets(
        class_names=class_names,
        classes=classes,
        value_names=_value_names(found, values, named),
        values=values,
        class_arrays=found.targets,
        value_arrays=named,
        notes=_notes(found, class_names, classes),
    )


def _read(found: ArrayFiles, name: str) -> NDArray[Any]:
    """Read an array; a single column becomes one-dimensional.

    Raises:
        DataError: It contains neither numbers nor text.
    """
    read = found.read(name)
    with error_location(found.path, name):
        if read.dtype.kind not in "buifU":
            raise DataError(
                f"is of type {read.dtype}; labels must be integers, text or regression targets"
            )
        if read.dtype.kind == "f" and not np.isfinite(read).all():
            raise DataError("contains NaN or infinity; every example needs a label")
    return read[:, 0] if read.ndim == 2 and read.shape[1] == 1 else read


def _has_fractions(labels: NDArray[Any]) -> bool:
    return labels.dtype.kind == "f" and bool((np.floor(labels) != labels).any())


def _numbers(found: ArrayFiles, name: str, read: NDArray[Any]) -> NDArray[np.float32]:
    """Return regression targets, (N, V).

    Raises:
        DataError: They are text, have another shape, or are too large.
    """
    with error_location(found.path, name):
        if read.dtype.kind == "U":
            raise DataError(
                "contains text; regression targets must be numeric (put class labels in y)"
            )
        if read.ndim > 2:
            raise DataError(
                f"has the shape {read.shape}; regression targets must be (N,) or (N, V)"
            )
        with np.errstate(over="ignore"):
            values_NV = (read[:, None] if read.ndim == 1 else read).astype(np.float32)
        if not np.isfinite(values_NV).all():
            raise DataError("contains numbers beyond 3e38; give them in a larger unit")
    return np.ascontiguousarray(values_NV)


def _value_names(
    found: ArrayFiles, values: Mapping[str, NDArray[np.float32]], named: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the names of the regression targets, by default their positions.

    Raises:
        DataError: Names and columns do not match, or a target is constant.
    """
    if not values:
        return ()
    width = values["train"].shape[1]
    for split, given in values.items():
        if given.shape[1] != width:
            raise DataError(
                f"{found.path}: {named[split]!r} has {given.shape[1]} targets per example, "
                f"{named['train']!r} has {width}"
            )
    names = tuple(str(index) for index in range(width))
    if found.value_names is not None:
        given_names = found.read(found.value_names)
        if given_names.dtype.kind != "U" or given_names.shape != (width,):
            raise DataError(
                f"{found.path}: {found.value_names!r} must be a list of {width} texts, "
                "one per target"
            )
        names = tuple(map(str, given_names))
        check_names(found.path, names)
    for index, column in enumerate(values["train"].T):
        if (column == column[0]).all():
            raise DataError(
                f"{found.path}: {named['train']!r} contains only {column[0]:g} as target "
                f"{names[index]!r}: nothing to predict; remove it"
            )
    return names


def _labels(found: ArrayFiles, name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels as integers from 0, or as text.

    Raises:
        DataError: They are neither.
    """
    with error_location(found.path, name):
        if labels.ndim != 1:
            labels = _from_one_hot(labels)
        if labels.dtype.kind == "U":
            return labels
        if labels.min() < 0:
            raise DataError(
                f"contains {labels.min():g}; labels count from 0 (call the array values if these "
                "are amounts)"
            )
        if labels.max() > 2**31:
            raise DataError(f"contains {labels.max():g}; labels count from 0, one number per class")
        return labels.astype(np.int64)


def _from_one_hot(labels: NDArray[Any]) -> NDArray[Any]:
    """Return the position of the 1 in each row.

    Raises:
        DataError: The rows are not one-hot.
    """
    shape = f"has the shape {labels.shape}, but labels are one number per example"
    if labels.ndim != 2 or labels.dtype.kind == "U" or not np.isin(labels, (0, 1)).all():
        raise DataError(f"{shape}, or one-hot rows of 0 and 1")
    if (labels.sum(axis=1) != 1).any():
        raise DataError(
            f"{shape}; these rows have several labels or none, which no loss here supports: call "
            "the array 'values' to predict each as a number, or keep one label"
        )
    positions: NDArray[np.int64] = labels.argmax(axis=1)
    return positions


def _notes(
    found: ArrayFiles, class_names: tuple[str, ...], classes: Mapping[str, NDArray[np.int64]]
) -> tuple[str, ...]:
    """Return a remark if integers are likely amounts."""
    if "train" not in classes or found.class_names is not None:
        return ()
    few = len(classes["train"]) < _FEW_EACH * len(class_names)
    if len(class_names) <= _MANY_CLASSES or not few or not all(n.isdecimal() for n in class_names):
        return ()
    return (
        f"{found.targets['train']!r} has {len(class_names):,} distinct integers, which are "
        "read as classes; call the array 'values' if they are amounts to predict",
    )


def _classes(
    found: ArrayFiles, labels: Mapping[str, NDArray[Any]]
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Return the names of the classes, and the class indices by split."""
    if not labels:
        return (), {}
    known = np.unique(labels["train"])
    names = [str(label) for label in known]
    if found.class_names is not None and labels["train"].dtype.kind != "U":
        given = found.read(found.class_names)
        if given.ndim != 1 or given.dtype.kind != "U":
            raise DataError(f"{found.path}: {found.class_names!r} must be a list of text")
        if known[-1] >= len(given):
            raise DataError(
                f"{found.path}: {found.targets['train']!r} contains {known[-1]}, but "
                f"{found.class_names!r} names {len(given)} classes, 0 to {len(given) - 1}"
            )
        names = [str(given[label]) for label in known]
    if len(names) < 2:
        raise DataError(
            f"{found.path}: {found.targets['train']!r} has only one class, {names[0]!r}: "
            "a classifier needs at least two; add examples of another"
        )
    check_names(found.path, names)
    targets: dict[str, NDArray[np.int64]] = {}
    index = {_key(label): position for position, label in enumerate(known)}
    for split, values in labels.items():
        given, where = np.unique(values, return_inverse=True)
        unknown = [label for label in given if _key(label) not in index]
        if unknown:
            raise DataError(
                f"{found.path}: {found.targets[split]!r} has class {str(unknown[0])!r}, which "
                f"{found.targets['train']!r} lacks; add examples of it there, or remove it"
            )
        targets[split] = np.array([index[_key(label)] for label in given], dtype=np.int64)[where]
    return tuple(names), targets


def _key(label: Any) -> str | int:
    """Return a key that equal labels share: text in one Unicode form, or the number."""
    return to_nfc(str(label)) if isinstance(label, str) else int(label)
