"""Safe, parallel reader of PNG and JPEG files; headers are checked before pixels are decoded."""

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from search_spaces.errors import ArchscoutError
from workers.data.limits import usable_cores
from workers.data.preprocessing import Preprocessing, is_deep, is_grayscale, prepare

FORMATS = ("PNG", "JPEG")
"""Formats that are read. Pillow reads an MPO, a JPEG followed by more pictures as many phones write
it, as JPEG and calls its format MPO."""
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".pjp", ".pjpeg", ".mpo"}
)
"""File names that are read."""
OTHER_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".ico", ".jp2", ".ppm", ".pgm", ".svg", ".tif", ".tiff"}
    | {".webp", ".dcm", ".raw"}
)
"""File names of images in other formats, which are refused: skipping them would lose examples."""
MAX_PIXELS = 89_478_485
"""Maximum pixels of an image (Pillow's own limit: 256 MB in color)."""

_ROTATED = frozenset({5, 6, 7, 8})
_ORIENTATION = 0x0112
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP": "JPEG 2000",
}
"""First bytes of known formats."""
_BRANDS = {b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}
_SIGNATURE_BYTES = 512


class BrokenImageError(ArchscoutError, ValueError):
    """A file that is not a readable image; the message is the reason without the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Size and kind of an image file."""

    height: int
    """Rows, after rotation by its EXIF orientation."""
    width: int
    """Columns, after rotation by its EXIF orientation."""
    grayscale: bool
    """True for a grayscale mode."""
    deep: bool
    """True for grayscale with more than 8 bits per pixel."""
    halved: bool
    """True for 16 bits per color, of which only the upper 8 are read."""
    alpha: bool
    """True with an alpha channel."""


def detect_format(path: Path) -> str | None:
    """Return the image format of a file by its first bytes; None if it is not an image."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            start = file.read(_SIGNATURE_BYTES) or b""
    except OSError:
        return None
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[4:8] == b"ftyp":
        return _BRANDS.get(start[8:12])
    if start[:2] == b"BM" and start[6:10] == bytes(4):
        return "BMP"
    return next((name for magic, name in _SIGNATURES.items() if start.startswith(magic)), None)


def header(path: Path) -> Header:
    """Read size and kind of an image without decoding its pixels.

    Raises:
        BrokenImageError: It is not an image, or is too large.
    """
    with _open_image(path) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise BrokenImageError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
        # A PNG without EXIF before its pixels would be decoded to find it.
        has_exif = image.format in {"JPEG", "MPO"} or "exif" in image.info
        if has_exif and image.getexif().get(_ORIENTATION) in _ROTATED:
            width, height = height, width
        deep = is_deep(image)
        return Header(
            height=height,
            width=width,
            grayscale=is_grayscale(image),
            deep=deep,
            halved=not deep and any(";16" in str(tile[-1]) for tile in getattr(image, "tile", ())),
            alpha=image.has_transparency_data,
        )


def read(path: Path, preprocessing: Preprocessing) -> NDArray[Any]:
    """Read one image as network input, (channels, height, width).

    Raises:
        BrokenImageError: It is damaged.
    """
    with _open_image(path) as image:
        return prepare(image, preprocessing)


def headers(paths: Sequence[Path]) -> list[Header | BrokenImageError]:
    """Read the headers of many files in parallel; a broken file gives its error."""

    def one(path: Path) -> Header | BrokenImageError:
        try:
            return header(path)
        except BrokenImageError as error:
            return error

    with _quiet(), ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(one, paths, chunksize=64))


def read_all(
    paths: Sequence[Path], preprocessing: Preprocessing
) -> tuple[NDArray[Any], dict[Path, str]]:
    """Read many images in parallel.

    Returns:
        Images, (N, channels, height, width), and the reason by file that could not be read.
    """
    p = preprocessing
    pixels = np.zeros((len(paths), p.channels, p.height, p.width), dtype=p.dtype)
    broken: dict[Path, str] = {}

    def one(index: int) -> None:
        try:
            pixels[index] = read(paths[index], preprocessing)
        except BrokenImageError as error:
            broken[paths[index]] = str(error)

    with _quiet(), ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(one, range(len(paths))):
            pass
    return pixels, broken


@contextmanager
def _open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file; every error becomes a BrokenImageError."""
    try:
        # Without blocking: a file may have become a pipe since it was listed.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except BrokenImageError:
        raise
    except UnidentifiedImageError:
        raise BrokenImageError(_describe(path)) from None
    except Image.DecompressionBombError:
        raise BrokenImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except OSError as error:
        raise BrokenImageError(error.strerror or _first_line(error)) from error
    except MemoryError:
        raise BrokenImageError("too large for the available memory") from None
    except Exception as error:  # decoders raise many types
        raise BrokenImageError(_first_line(error)) from error


def _describe(path: Path) -> str:
    """Return a description of a file that is neither PNG nor JPEG."""
    try:
        if path.stat().st_size == 0:
            return "empty"
        with path.open("rb") as file:
            start = file.read(_SIGNATURE_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError as error:
        return error.strerror or _first_line(error)
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    found = detect_format(path)
    if found in FORMATS:
        return f"damaged {found}"
    return f"{found} inside, not PNG or JPEG" if found else "no PNG or JPEG inside"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Pillow's warnings about odd files; set once, because threads share the filter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
