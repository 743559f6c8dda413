"""Inputs of a prediction: image files, arrays, and folders of both.

No file is trusted: image headers are checked before decoding, and arrays are never unpickled.
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
_ALLOWED = "PNG and JPEG images, .npy and .npz files, and folders of them"
_INPUTS = ("x", "images", "image", "inputs", "data", "x_test")
_BATCH = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class InputBatch:
    """Batch of inputs, preprocessed for the network."""

    names: list[tuple[str, int | None]]
    """File of each input, and its index if the file contains several."""
    examples: NDArray[Any]
    """Images (N, C, H, W) or vectors (N, F)."""


def expand(paths: Iterable[str]) -> tuple[list[Path], list[str]]:
    """Return the files that paths name, those of a folder in order of their names.

    Returns:
        The files, and a note for each folder with ignored files.

    Raises:
        DataError: A file does not exist, or a folder contains no readable files.
    """
    files: list[Path] = []
    notes: list[str] = []
    for text in paths:
        path = Path(text).expanduser()
        if path.is_dir():
            walk = Walk(path.resolve())
            inside = [path / each for each in walk.below(walk.root, SUFFIXES | ARRAYS)]
            because = f"; {walk.notes[0]}" if walk.notes else ""
            if not inside:
                raise DataError(f"{path} contains none of {_ALLOWED}{because}")
            if walk.ignored:
                count = len(walk.ignored)
                notes.append(
                    f"{path}: {count} files ignored: {format_names(walk.ignored)}{because}"
                )
            files += inside
        elif not path.is_file():
            what = "is neither file nor folder" if path.exists() else "does not exist"
            raise DataError(f"{path} {what}")
        elif not _is_known(path):
            raise DataError(f"{path} cannot be read. Allowed: {_ALLOWED}")
        else:
            files.append(path)
    return files, notes


def batches(files: Iterable[Path], shim: Any, failed: list[str]) -> Iterator[InputBatch]:
    """Yield all readable inputs in batches of up to 1,024.

    Args:
        files: Images and arrays.
        shim: Instance of the model's code file, which preprocesses inputs.
        failed: Receives a message for each file that is unreadable or does not fit the model.
    """
    names: list[tuple[str, int | None]] = []
    images: list[NDArray[Any]] = []
    for path in files:
        is_array = path.suffix.lower() in ARRAYS
        if images and (is_array or len(images) == _BATCH):
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
        header(path)  # refuses other files, and images too large to decode
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
        for start in range(0, len(values), _BATCH):
            batch = values[start : start + _BATCH]
            names: list[tuple[str, int | None]] = [
                (str(path), start + index) for index in range(len(batch))
            ]
            yield InputBatch(names=names, examples=shim.prepare_arrays(np.asarray(batch)))
    except (MemoryError, OverflowError) as error:
        raise DataError(f"{path} does not fit into memory") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} cannot be used: {error}") from error


def _array(path: Path) -> NDArray[Any]:
    """Return the array of a file; arrays of Python objects are refused."""
    if path.suffix.lower() == ".npy":
        mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        return mapped
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > max_array_bytes():
        raise DataError(f"{path} contains {format_bytes(size)}, which do not fit into memory")
    with np.load(path, allow_pickle=False) as archive:
        names = archive.files
        chosen = next((name for name in _INPUTS if name in names), None)
        if chosen is None and len(names) != 1:
            listed = ", ".join(names[:10]) or "nothing"
            raise DataError(
                f"{path} contains {listed}: name the array of examples x, or keep only that array"
            )
        values: NDArray[Any] = archive[chosen or names[0]]
    return values


def _single_shapes(facts: dict[str, Any]) -> set[tuple[int, ...]]:
    """Return the shapes of an array of a single example."""
    prepared = facts["preprocessing"]
    if prepared is None:
        return {tuple(shape) for shape in facts["inputs"].values()}
    channels, height, width = (prepared[name] for name in ("channels", "height", "width"))
    shapes: set[tuple[int, ...]] = {(height, width, channels), (channels, height, width)}
    if channels == 1:
        shapes.add((height, width))
    return shapes


def check_range(values: NDArray[Any], prepared: dict[str, Any] | None) -> None:
    """Check the values of a file before any of it is predicted.

    Raises:
        ValueError: There are no examples, NaN or infinity, or other units than in training.
    """
    if values.size == 0:
        raise ValueError("it contains no examples")
    if values.dtype.kind not in "buif":
        return
    if prepared is None:
        extremes(values)
    elif reason := unit_mismatch(Preprocessing.from_dict(prepared), values):
        raise ValueError(reason)
