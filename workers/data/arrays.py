"""Arrays that users made themselves: one `.npz` file, or a folder of `.npy` files.

Trusts no header: type and size of an array are known before memory is asked for, and nothing is
ever unpickled. Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from workers.data.dataset import DataError, RawData, Split, check_names, listed
from workers.data.folder import PARTS
from workers.data.memory import most_bytes
from workers.data.preprocessing import Preprocessing, prepare_arrays, value_range
from workers.data.spec import DataSpec

_INPUTS = frozenset({"x", "image", "images", "data", "input", "inputs", "features"})
_TARGETS = frozenset({"y", "label", "labels", "target", "targets"})
_NAMES = frozenset({"class_names", "classes", "label_names", "target_names"})
_MOST_CHANNELS = 4
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
)
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_WANTED = (
    "it needs x and y (or images and labels), or x_train and y_train, "
    "and perhaps the same with _val and _test"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Which arrays there are, by what they are for."""

    path: Path
    inputs: Mapping[str, str]
    """Name of the array of examples, by part."""
    targets: Mapping[str, str]
    """Name of the array of labels, by part."""
    class_names: str | None
    """Name of the array that holds what classes are called."""
    ignored: tuple[str, ...]
    """Arrays and files that mean nothing here."""
    read: Callable[[str], NDArray[Any]]
    """Reads an array by name."""


def read(spec: DataSpec) -> RawData:
    """The arrays of a file or folder as bytes, the labels counted from 0.

    Raises:
        DataError: They are missing, or are not what training takes.
    """
    if spec.path is None:
        raise DataError("data.path: source 'npz' needs the .npz file, or a folder of .npy files")
    return load(find(Path(spec.path).expanduser()))


def find(path: Path) -> Found:
    """Which arrays lie there, by name alone.

    Raises:
        DataError: None do, or their names do not say what they are for.
    """
    if path.is_dir():
        files = {each.stem: each for each in sorted(path.glob("*.npy"))}
        others = [each.name for each in sorted(path.iterdir()) if each not in files.values()]

        def from_folder(name: str) -> NDArray[Any]:
            with _told(files[name]), files[name].open("rb") as file:
                return _array(file, files[name].stat().st_size)

        return _sorted(path, list(files), others, from_folder)
    if path.suffix == ".npy":
        raise DataError(
            f"{path} is one array; give the folder that holds x.npy and y.npy, or an .npz file"
        )
    if not path.is_file():
        raise DataError(f"{path} is not there; give an .npz file, or a folder of .npy files")
    with _told(path), zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist()]

    def from_archive(name: str) -> NDArray[Any]:
        with _told(path, name), zipfile.ZipFile(path) as archive:
            member = archive.getinfo(f"{name}.npy")
            if member.flag_bits & 1:
                raise DataError("is encrypted; save it without a password")
            with archive.open(member) as file:
                return _array(file, member.file_size)

    return _sorted(path, names, [], from_archive)


def load(found: Found) -> RawData:
    """The arrays found, prepared alike: brightness as the training part has it.

    Raises:
        DataError: They are not what training takes.
    """
    labels = {part: _labels(found, part) for part in found.targets}
    class_names, targets = _classes(found, labels)
    splits: dict[str, Split] = {}
    preprocessing: Preprocessing | None = None
    for part in sorted(found.inputs, key=lambda part: part != "train"):
        name = found.inputs[part]
        values = found.read(name)
        with _told(found.path, name):
            if len(values) != len(targets[part]):
                raise DataError(
                    f"has {len(values)} examples, but {found.targets[part]!r} has "
                    f"{len(targets[part])} labels; each example needs one"
                )
            if preprocessing is None:
                preprocessing = _preprocessing(values)
            pixels = prepare_arrays(values, preprocessing)
        splits[part] = Split(inputs={"image": pixels}, targets=targets[part])
    return RawData(
        pool=splits["train"],
        validation=splits.get("validation"),
        test=splits.get("test"),
        class_names=class_names,
        preprocessing=preprocessing,
    )


def _sorted(
    path: Path, names: list[str], others: list[str], reader: Callable[[str], NDArray[Any]]
) -> Found:
    """Tells arrays apart by the words in their names."""
    inputs: dict[str, str] = {}
    targets: dict[str, str] = {}
    class_names = None
    ignored = list(others)
    for name in names:
        words = name.lower().split("_")
        parts = [PARTS[word] for word in words if word in PARTS]
        rest = [word for word in words if word not in PARTS]
        role = rest[0] if len(rest) == 1 and len(parts) < 2 else ""
        kind = inputs if role in _INPUTS else targets if role in _TARGETS else None
        part = parts[0] if parts else ""
        if name.lower() in _NAMES:
            class_names = name
        elif kind is None:
            ignored.append(name)
        elif part in kind:
            raise DataError(f"{path}: {kind[part]!r} and {name!r} mean the same; remove one")
        else:
            kind[part] = name
    _check_pairs(path, inputs, targets, names)
    return Found(
        path=path,
        inputs={part or "train": name for part, name in inputs.items()},
        targets={part or "train": name for part, name in targets.items()},
        class_names=class_names,
        ignored=tuple(sorted(ignored)),
        read=reader,
    )


def _check_pairs(
    path: Path, inputs: Mapping[str, str], targets: Mapping[str, str], names: list[str]
) -> None:
    if "" in inputs and "train" in inputs:
        raise DataError(
            f"{path}: {inputs['']!r} and {inputs['train']!r} both are examples to train on; "
            "remove one"
        )
    if not {"", "train"} & set(inputs):
        there = f"holds {listed(names)}" if names else "holds no arrays"
        raise DataError(f"{path} {there}; {_WANTED}")
    if lonely := set(inputs) ^ set(targets):
        name = (dict(targets) | dict(inputs))[min(lonely)]
        raise DataError(f"{path}: {name!r} has no counterpart among {listed(names)}; {_WANTED}")


def _labels(found: Found, part: str) -> NDArray[Any]:
    """The labels of a part as whole numbers from 0 or as text.

    Raises:
        DataError: They are neither.
    """
    name = found.targets[part]
    labels = found.read(name)
    with _told(found.path, name):
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim != 1:
            raise DataError(
                f"has the shape {labels.shape}, but labels are one number an example; "
                "of one-hot rows take the argmax"
            )
        if labels.dtype.kind == "U":
            return labels
        if labels.dtype.kind not in "buif":
            raise DataError(f"is of type {labels.dtype}; labels are whole numbers or text")
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            raise DataError("holds NaN or infinity; every example needs a label")
        if labels.dtype.kind == "f" and (np.floor(labels) != labels).any():
            worst = labels[np.floor(labels) != labels][0]
            raise DataError(f"holds {worst:g}; labels are whole numbers: classes, not amounts")
        if labels.min() < 0:
            raise DataError(f"holds {labels.min():g}; labels count from 0")
        if labels.max() > 2**31:
            raise DataError(f"holds {labels.max():g}; labels count from 0, one number a class")
        return labels.astype(np.int64)


def _classes(
    found: Found, labels: Mapping[str, NDArray[Any]]
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Names of the classes, and each part's labels as positions among them."""
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
    for part, values in labels.items():
        same_kind = (values.dtype.kind == "U") == (known.dtype.kind == "U")
        unknown = np.setdiff1d(values, known) if same_kind else values[:1]
        if len(unknown):
            raise DataError(
                f"{found.path}: {found.targets[part]!r} has class {str(unknown[0])!r}, which "
                f"{found.targets['train']!r} lacks; add examples of it there, or remove it"
            )
        targets[part] = np.searchsorted(known, values).astype(np.int64)
    return tuple(names), targets


def _preprocessing(values: NDArray[Any]) -> Preprocessing:
    """What the training part says about all: where its channels are, what is dark and bright.

    Raises:
        DataError: These are no images.
    """
    if values.dtype.kind not in "buif":
        raise DataError(f"is of type {values.dtype}; examples are numbers")
    shape = values.shape[1:]
    if len(shape) == 2:
        channels, height, width = 1, *shape
    elif len(shape) == 3 and shape[2] <= _MOST_CHANNELS < shape[1]:
        height, width, channels = shape
    elif len(shape) == 3 and shape[0] <= _MOST_CHANNELS < shape[2]:
        channels, height, width = shape
    else:
        raise DataError(
            f"has the shape {values.shape}; images are (N, height, width), or with 1 to "
            f"{_MOST_CHANNELS} channels last or second: reshape them"
        )
    low, high = value_range(values)
    return Preprocessing(channels=channels, height=height, width=width, low=low, high=high)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type, as the file says them."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers that Python 2 wrote are fine
            version = np.lib.format.read_magic(file)
            read_header = _HEADERS.get(version)
            if read_header is not None:
                return read_header(file)
    except Exception as error:  # numpy's parser raises whatever a broken header makes of it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"is damaged ({reason[:100]}); save it again with numpy.save") from error
    raise DataError(f"is of format version {version}; save it again with numpy.save")


def _array(file: IO[bytes], size: int) -> NDArray[Any]:
    """One array, once its header fits the bytes that follow and the memory there is."""
    shape, column_order, dtype = _header(file)
    if dtype.hasobject:
        raise DataError(
            "holds Python objects, which are never loaded; save numbers of one type, "
            "all examples of one shape: numpy.array(..., dtype='uint8')"
        )
    if not shape or min(shape) <= 0:
        raise DataError(f"holds no examples: its shape is {shape}")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > size:
        raise DataError(f"claims {claimed:,} bytes in its header, more than the {size:,} there are")
    if claimed > (most := most_bytes()):
        raise DataError(
            f"takes {claimed / 2**30:.1f} GiB, and there is memory for {most / 2**30:.1f}; "
            "save fewer examples, or images as uint8"
        )
    values = np.empty(claimed, dtype=np.uint8)
    filled = 0
    while filled < claimed and (piece := file.read(min(claimed - filled, 2**22))):
        values[filled : filled + len(piece)] = np.frombuffer(piece, dtype=np.uint8)
        filled += len(piece)
    if filled < claimed:
        raise DataError(f"ends after {filled:,} of {claimed:,} bytes; copy it again")
    buffer = values.data
    if column_order:
        return np.ndarray(shape, dtype=dtype, buffer=buffer, order="F")
    return np.ndarray(shape, dtype=dtype, buffer=buffer)


@contextmanager
def _told(path: Path, name: str | None = None) -> Iterator[None]:
    """Says of whatever goes wrong which file and array it was."""
    where = f"{path}:" if name is None else f"{path}: {name!r}"
    try:
        yield
    except DataError as error:
        raise DataError(f"{where} {error}") from error
    except _DAMAGED as error:
        raise DataError(f"{where} is damaged ({error}); save it again") from error
    except KeyError:
        raise DataError(f"{where} is no .npy file inside the .npz") from None
    except ValueError as error:
        raise DataError(f"{where} cannot be used: {error}") from error
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror or error}") from error
