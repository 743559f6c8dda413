"""What a user wants predictions for: image files, arrays, and folders of both.

Trusts no file: images are looked at before they are unpacked, arrays are never unpickled.
"""

import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from orchestrator.formatting import format_bytes
from workers.data import DataError, Preprocessing
from workers.data.checks import format_names
from workers.data.images import FORMATS, SUFFIXES, BrokenImageError, header
from workers.data.limits import max_array_bytes
from workers.data.preprocessing import extremes, unit_mismatch
from workers.data.walk import Walk

ARRAYS = frozenset({".npy", ".npz"})
_KNOWN = "PNG and JPEG images, .npy and .npz files, and folders of them"
_INPUTS = ("x", "images", "image", "inputs", "data", "x_test")
_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class InputBatch:
    """Some inputs as the network takes them."""

    names: list[tuple[str, int | None]]
    """The file of each, and its place where the file holds several."""
    examples: NDArray[Any]
    """(N, channels, height, width) for images, (N, numbers) for vectors."""


def expand(given: Iterable[str]) -> tuple[list[Path], list[str]]:
    """The files that are meant, those of a folder in the order of their names.

    Returns:
        The files, and a note for each folder in which others are left aside.

    Raises:
        DataError: One is not there, or nothing in a folder can be read.
    """
    files: list[Path] = []
    notes: list[str] = []
    for text in given:
        path = Path(text).expanduser()
        if path.is_dir():
            walk = Walk(path.resolve())
            inside = [path / each for each in walk.below(walk.root, SUFFIXES | ARRAYS)]
            because = f"; {walk.notes[0]}" if walk.notes else ""
            if not inside:
                raise DataError(f"{path} holds none of {_KNOWN}{because}")
            if walk.ignored:
                count = len(walk.ignored)
                notes.append(
                    f"{path}: {count} files left aside: {format_names(walk.ignored)}{because}"
                )
            files += inside
        elif not path.is_file():
            what = "is neither file nor folder" if path.exists() else "is not there"
            raise DataError(f"{path} {what}")
        elif not _is_known(path):
            raise DataError(f"{path} cannot be read: known are {_KNOWN}")
        else:
            files.append(path)
    return files, notes


def batches(files: Iterable[Path], shim: Any, failed: list[str]) -> Iterator[InputBatch]:
    """Yield all inputs that can be read, about a thousand at a time.

    Args:
        files: Images and arrays.
        shim: The model's code, which knows what the network takes.
        failed: Gets one message for each file that cannot be read, or does not fit the model.
    """
    names: list[tuple[str, int | None]] = []
    images: list[NDArray[Any]] = []
    for path in files:
        is_array = path.suffix.lower() in ARRAYS
        if images and (is_array or len(images) == _AT_ONCE):
            yield InputBatch(names=names, examples=np.stack(images))
            names, images = [], []
        try:
            if is_array:
                yield from _array_batches(path, shim)
            else:
                images.append(_image(path, shim))
                names.append((str(path), None))
        except DataError as error:
            failed.append(str(error))
    if images:
        yield InputBatch(names=names, examples=np.stack(images))


def _is_known(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES | ARRAYS


def _image(path: Path, shim: Any) -> NDArray[Any]:
    try:
        header(path)  # refuses what is no image, or too large to unpack
        with Image.open(path, formats=FORMATS) as image:
            pixels: NDArray[Any] = shim.prepare_image(image)
    except (BrokenImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    return pixels


def _array_batches(path: Path, shim: Any) -> Iterator[InputBatch]:
    try:
        values = _array(path)
        if tuple(values.shape) in _single_shapes(shim.facts):
            values = values[None]
        check_range(values, shim.facts["preprocessing"])
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            names: list[tuple[str, int | None]] = [
                (str(path), start + place) for place in range(len(part))
            ]
            yield InputBatch(names=names, examples=shim.prepare_arrays(np.asarray(part)))
    except (MemoryError, OverflowError) as error:
        raise DataError(f"{path} holds more than there is memory for") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be used: {error}") from error


def _array(path: Path) -> NDArray[Any]:
    """The array of a file, one of Python objects refused."""
    if path.suffix.lower() == ".npy":
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > max_array_bytes():
        raise DataError(f"{path} holds {format_bytes(size)}, more than there is memory for")
    with np.load(path, allow_pickle=False) as archive:
        names = archive.files
        chosen = next((name for name in _INPUTS if name in names), None)
        if chosen is None and len(names) != 1:
            listed = ", ".join(names[:10]) or "nothing"
            raise DataError(
                f"{path} holds {listed}: name the examples x, or leave them alone in it"
            )
        values: NDArray[Any] = archive[chosen or names[0]]
    return values


def _single_shapes(facts: dict[str, Any]) -> set[tuple[int, ...]]:
    """Shapes of an array that is one example alone."""
    prepared = facts["preprocessing"]
    if prepared is None:
        return {tuple(shape) for shape in facts["inputs"].values()}
    channels, height, width = (prepared[name] for name in ("channels", "height", "width"))
    shapes: set[tuple[int, ...]] = {(height, width, channels), (channels, height, width)}
    if channels == 1:
        shapes.add((height, width))
    return shapes


def check_range(values: NDArray[Any], prepared: dict[str, Any] | None) -> None:
    """Refuse what no model takes, or this one not, before any of the file is predicted.

    Raises:
        ValueError: NaN or infinity, or values in other units than those of training.
    """
    if values.size == 0:
        raise ValueError("it holds no examples")
    if values.dtype.kind not in "buif":
        return
    if prepared is None:
        extremes(values)
    elif reason := unit_mismatch(Preprocessing.from_dict(prepared), values):
        raise ValueError(reason)
