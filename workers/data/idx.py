"""Source `idx`: images in IDX files, plain or gzipped, the format of MNIST and Fashion-MNIST.

Headers are not trusted: their size is compared with the file's before memory is allocated.
Format: four bytes (two zeros, element type, dimensions), a big-endian 32-bit size for each
dimension, then the elements (http://yann.lecun.com/exdb/mnist/).
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from workers.data.checks import DataError, check_distinct
from workers.data.dataset import RawData, Split
from workers.data.spec import DataSpec

UNSIGNED_BYTE = 0x08
MAX_BYTES = 4 * 2**30
"""Maximum size of an array: larger ones would not fit into a worker."""
DEFLATE_LIMIT = 1032
"""Maximum expansion factor of deflate (zlib's technical notes)."""


def read(spec: DataSpec) -> RawData:
    """Read the pairs `train-*` and, if present, `t10k-*` of a folder.

    Raises:
        DataError: A file is missing or is not what its name says.
    """
    if spec.path is None:
        raise DataError("data.path: source 'idx' needs the folder with train-images-idx3-ubyte")
    folder = Path(spec.path).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.path: {folder} is not a folder")
    pool = _pair(folder, "train")
    if pool is None:
        raise DataError(f"data.path: no train-images-idx3-ubyte or .gz in {folder}")
    test = _pair(folder, "t10k")
    if test is not None and test.inputs["image"].shape[1:] != pool.inputs["image"].shape[1:]:
        raise DataError(f"{folder}: training and test images differ in size")
    check_distinct(pool.inputs["image"], f"{folder}:")
    highest = max(int(split.targets.max(initial=0)) for split in (pool, test) if split is not None)
    return RawData(
        pool=pool,
        test=test,
        class_names=tuple(str(label) for label in range(highest + 1)),
        skipped_files=tuple(
            sorted(each.name for each in folder.iterdir() if "ubyte" not in each.name)
        ),
    )


def read_array(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Read the array of one IDX file.

    Args:
        path: The file.
        dimensions: Expected number of dimensions.

    Raises:
        DataError: It is not an IDX file of bytes with that many dimensions, or is damaged.
    """
    try:
        with path.open("rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
            plain.seek(0)
            size = path.stat().st_size
            if not zipped:
                return _read(plain, path, dimensions, max_bytes=size)
            with gzip.open(plain) as unzipped:
                stream = cast("BinaryIO", unzipped)
                return _read(stream, path, dimensions, max_bytes=size * DEFLATE_LIMIT)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a complete gzip file: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _read(stream: BinaryIO, path: Path, dimensions: int, max_bytes: int) -> NDArray[np.uint8]:
    header = stream.read(4 + 4 * dimensions)
    if header[:4] != bytes((0, 0, UNSIGNED_BYTE, dimensions)):
        raise DataError(f"{path} is not an IDX file of bytes with {dimensions} dimensions")
    if len(header) < 4 + 4 * dimensions:
        raise DataError(f"{path} ends within its header")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    claimed = math.prod(shape)
    if claimed == 0:
        raise DataError(f"{path} contains no elements: its header says {shape}")
    if claimed > min(max_bytes, MAX_BYTES):
        raise DataError(f"{path} claims {claimed} bytes in its header, more than it can contain")
    elements = np.empty(claimed, dtype=np.uint8)
    view = elements.data
    filled = 0
    while filled < claimed and (piece := stream.read(min(claimed - filled, 2**20))):
        view[filled : filled + len(piece)] = piece
        filled += len(piece)
    if filled < claimed or stream.read(1):
        relation = "fewer" if filled < claimed else "more"
        raise DataError(f"{path} contains {relation} bytes than the {claimed} its header says")
    return elements.reshape(shape)


def _pair(folder: Path, prefix: str) -> Split | None:
    images_at, labels_at = _find(folder, prefix, "images", 3), _find(folder, prefix, "labels", 1)
    if images_at is None and labels_at is None:
        return None
    if images_at is None or labels_at is None:
        missing = "images" if images_at is None else "labels"
        raise DataError(f"{folder} has no {prefix}-{missing} file for the other")
    images_NHW = read_array(images_at, dimensions=3)
    labels = read_array(labels_at, dimensions=1)
    if len(images_NHW) != len(labels):
        raise DataError(f"{images_at} has {len(images_NHW)} images, {labels_at} {len(labels)}")
    return Split(inputs={"image": images_NHW[:, None]}, targets=labels.astype(np.int64))


def _find(folder: Path, prefix: str, what: str, dimensions: int) -> Path | None:
    # Copies on the internet have a dash or a dot in the name.
    for separator in "-.":
        for suffix in ("", ".gz"):
            path = folder / f"{prefix}-{what}{separator}idx{dimensions}-ubyte{suffix}"
            if path.is_file():
                return path
    return None
