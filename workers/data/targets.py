"""What the examples of arrays are labelled with: classes, numbers to be foretold, or both.

Labels with fractions are numbers. Whole ones are classes: whoever means amounts calls the array
`values`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.data.array_files import ArrayFiles
from workers.data.checks import DataError, check_names, composed
from workers.data.dataset import Split
from workers.data.npy import told

_MANY_CLASSES = 20
_FEW_EACH = 20
"""Whole numbers with more different ones, each in fewer examples, are likely amounts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Targets:
    """All that the examples are labelled with."""

    class_names: tuple[str, ...]
    """What people call each class; empty where nothing is classified."""
    classes: Mapping[str, NDArray[np.int64]]
    """Positions among the class names, by part."""
    value_names: tuple[str, ...]
    """What people call each number; empty where none is foretold."""
    values: Mapping[str, NDArray[np.float32]]
    """Numbers to be foretold, (N, V), by part."""
    class_arrays: Mapping[str, str]
    """Name of the array that the classes come from, by part."""
    value_arrays: Mapping[str, str]
    """Name of the array that the numbers come from, by part."""
    notes: tuple[str, ...] = ()
    """What a user should know of how the labels were read."""

    def check_count(self, part: str, count: int) -> None:
        """Refuse examples that are more or fewer than their labels.

        Raises:
            DataError: They are.
        """
        for answers, arrays in (
            (self.classes, self.class_arrays),
            (self.values, self.value_arrays),
        ):
            if part in answers and len(answers[part]) != count:
                raise DataError(
                    f"has {count} examples, but {arrays[part]!r} has "
                    f"{len(answers[part])} labels; each example needs one"
                )

    def split(self, part: str, inputs: Mapping[str, NDArray[Any]]) -> Split:
        """A part with its labels; all are class 0 where nothing is classified."""
        if part in self.classes:
            targets = self.classes[part]
        else:
            targets = np.zeros(len(self.values[part]), dtype=np.int64)
        return Split(inputs=inputs, targets=targets, values=self.values.get(part))


def read_targets(found: ArrayFiles) -> Targets:
    """Classes and numbers of every part.

    Raises:
        DataError: They are neither, or contradict each other.
    """
    labels = {part: _read(found, name) for part, name in found.targets.items()}
    numbers = {part: _read(found, name) for part, name in found.values.items()}
    amounts = [part for part, read in labels.items() if _has_fractions(read)]
    if amounts and numbers:
        name = found.targets[amounts[0]]
        raise DataError(
            f"{found.path}: {name!r} holds fractions, hence numbers, and so does "
            f"{found.values[amounts[0]]!r}; put all numbers into one array"
        )
    named = found.values if numbers else found.targets
    if amounts:
        labels, numbers = {}, labels
    values = {part: _numbers(found, named[part], read) for part, read in numbers.items()}
    class_names, classes = _classes(
        found, {part: _labels(found, found.targets[part], read) for part, read in labels.items()}
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
    """An array, one column of it as a list.

    Raises:
        DataError: It holds what is neither number nor text.
    """
    read = found.read(name)
    with told(found.path, name):
        if read.dtype.kind not in "buifU":
            raise DataError(
                f"is of type {read.dtype}; labels are whole numbers or text, or else numbers"
            )
        if read.dtype.kind == "f" and not np.isfinite(read).all():
            raise DataError("holds NaN or infinity; every example needs a label")
    return read[:, 0] if read.ndim == 2 and read.shape[1] == 1 else read


def _has_fractions(labels: NDArray[Any]) -> bool:
    return labels.dtype.kind == "f" and bool((np.floor(labels) != labels).any())


def _numbers(found: ArrayFiles, name: str, read: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers to be foretold, (N, V).

    Raises:
        DataError: They are text, or of another shape, or too large.
    """
    with told(found.path, name):
        if read.dtype.kind == "U":
            raise DataError("holds text; what is foretold are numbers, classes belong into y")
        if read.ndim > 2:
            raise DataError(f"has the shape {read.shape}; numbers to foretell are (N,) or (N, V)")
        with np.errstate(over="ignore"):
            values_NV = (read[:, None] if read.ndim == 1 else read).astype(np.float32)
        if not np.isfinite(values_NV).all():
            raise DataError("holds numbers beyond 3e38; give them in a larger unit")
    return np.ascontiguousarray(values_NV)


def _value_names(
    found: ArrayFiles, values: Mapping[str, NDArray[np.float32]], named: Mapping[str, str]
) -> tuple[str, ...]:
    """What the numbers are called; by their position where nobody says.

    Raises:
        DataError: Names and columns do not match, or a number never changes.
    """
    if not values:
        return ()
    width = values["train"].shape[1]
    for part, given in values.items():
        if given.shape[1] != width:
            raise DataError(
                f"{found.path}: {named[part]!r} has {given.shape[1]} numbers an example, "
                f"{named['train']!r} has {width}"
            )
    names = tuple(str(index) for index in range(width))
    if found.value_names is not None:
        told_names = found.read(found.value_names)
        if told_names.dtype.kind != "U" or told_names.shape != (width,):
            raise DataError(
                f"{found.path}: {found.value_names!r} must be a list of {width} texts, one a number"
            )
        names = tuple(map(str, told_names))
        check_names(found.path, names)
    for index, column in enumerate(values["train"].T):
        if (column == column[0]).all():
            raise DataError(
                f"{found.path}: {named['train']!r} holds nothing but {column[0]:g} as number "
                f"{names[index]!r}: nothing to foretell; remove it"
            )
    return names


def _labels(found: ArrayFiles, name: str, labels: NDArray[Any]) -> NDArray[Any]:
    """Labels as whole numbers from 0 or as text.

    Raises:
        DataError: They are neither.
    """
    with told(found.path, name):
        if labels.ndim != 1:
            labels = _from_one_hot(labels)
        if labels.dtype.kind == "U":
            return labels
        if labels.min() < 0:
            raise DataError(
                f"holds {labels.min():g}; labels count from 0 (call the array values if these "
                "are amounts)"
            )
        if labels.max() > 2**31:
            raise DataError(f"holds {labels.max():g}; labels count from 0, one number a class")
        return labels.astype(np.int64)


def _from_one_hot(labels: NDArray[Any]) -> NDArray[Any]:
    """The position of the 1 in each row.

    Raises:
        DataError: The rows are not one-hot.
    """
    shape = f"has the shape {labels.shape}, but labels are one number an example"
    if labels.ndim != 2 or labels.dtype.kind == "U" or not np.isin(labels, (0, 1)).all():
        raise DataError(f"{shape}, or one-hot rows of 0 and 1")
    if (labels.sum(axis=1) != 1).any():
        raise DataError(
            f"{shape}; these rows have several labels or none, which no loss here serves: call the "
            "array 'values' to predict each as a number, or keep one label"
        )
    places: NDArray[np.int64] = labels.argmax(axis=1)
    return places


def _notes(
    found: ArrayFiles, class_names: tuple[str, ...], classes: Mapping[str, NDArray[np.int64]]
) -> tuple[str, ...]:
    """A remark where whole numbers are likely amounts."""
    if "train" not in classes or found.class_names is not None:
        return ()
    few = len(classes["train"]) < _FEW_EACH * len(class_names)
    if len(class_names) <= _MANY_CLASSES or not few or not all(n.isdecimal() for n in class_names):
        return ()
    return (
        f"{found.targets['train']!r} has {len(class_names):,} different whole numbers, which are "
        "taken for classes; call the array 'values' if they are amounts to predict",
    )


def _classes(
    found: ArrayFiles, labels: Mapping[str, NDArray[Any]]
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Names of the classes, and each part's labels as positions among them."""
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
                f"{found.path}: {found.targets['train']!r} holds {known[-1]}, but "
                f"{found.class_names!r} names {len(given)} classes, 0 to {len(given) - 1}"
            )
        names = [str(given[label]) for label in known]
    if len(names) < 2:
        raise DataError(
            f"{found.path}: {found.targets['train']!r} has one class only, {names[0]!r}: "
            "nothing to tell apart; add examples of another"
        )
    check_names(found.path, names)
    targets: dict[str, NDArray[np.int64]] = {}
    index = {_key(label): place for place, label in enumerate(known)}
    for part, values in labels.items():
        given, where = np.unique(values, return_inverse=True)
        unknown = [label for label in given if _key(label) not in index]
        if unknown:
            raise DataError(
                f"{found.path}: {found.targets[part]!r} has class {str(unknown[0])!r}, which "
                f"{found.targets['train']!r} lacks; add examples of it there, or remove it"
            )
        targets[part] = np.array([index[_key(label)] for label in given], dtype=np.int64)[where]
    return tuple(names), targets


def _key(label: Any) -> str | int:
    """What equal labels have in common: text in one Unicode form, or the number."""
    return composed(str(label)) if isinstance(label, str) else int(label)
