"""Safe reader of one array of an `.npy` file or archive member.

Type and size are checked before memory is allocated, and nothing is ever unpickled.
Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

import lzma
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from workers.data.dataset import DataError
from workers.data.limits import max_array_bytes

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


def read_array(file: IO[bytes], size: int) -> NDArray[Any]:
    """Read one array after comparing its header with the file size and the available memory.

    Args:
        file: Opened at the beginning of the array.
        size: Size of the file in bytes.

    Raises:
        DataError: It is damaged, too large, or of a type that is not read.
    """
    shape, fortran_order, dtype = _header(file)
    if dtype.hasobject:
        raise DataError(
            "contains Python objects, which are never loaded; save numbers of one type, "
            "all examples of one shape: numpy.array(..., dtype='uint8')"
        )
    if not shape or min(shape) <= 0:
        raise DataError(f"contains no examples: its shape is {shape}")
    claimed = math.prod(shape) * dtype.itemsize
    if claimed > size:
        raise DataError(f"claims {claimed:,} bytes in its header, more than the {size:,} there are")
    if claimed > (limit := max_array_bytes()):
        raise DataError(
            f"takes {claimed / 2**30:.1f} GiB, and memory is available for {limit / 2**30:.1f}; "
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
    if fortran_order:
        return np.ndarray(shape, dtype=dtype, buffer=buffer, order="F")
    return np.ndarray(shape, dtype=dtype, buffer=buffer)


@contextmanager
def error_location(path: Path, name: str | None = None) -> Iterator[None]:
    """Turn errors into DataErrors that name the file and the array."""
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


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return the header: shape, whether the order is Fortran's, and type."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # headers written by Python 2 are valid
            version = np.lib.format.read_magic(file)
            read_header = _HEADERS.get(version)
            if read_header is not None:
                return read_header(file)
    except Exception as error:  # numpy's parser raises many types
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"is damaged ({reason[:100]}); save it again with numpy.save") from error
    raise DataError(f"is of format version {version}; save it again with numpy.save")
