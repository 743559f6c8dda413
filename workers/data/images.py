"""Image files that nobody vouches for: looked at before they are unpacked, read side by side.

Knows PNG and JPEG files, and nothing of classes or folders.
"""

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
from workers.data.preprocessing import Preprocessing, is_deep, is_grey, prepare

FORMATS = ("PNG", "JPEG")
"""Pillow reads an MPO, a JPEG with more pictures behind the first as many phones write it, as JPEG
and calls its format MPO."""
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jif", ".jfif", ".pjp", ".pjpeg", ".mpo"}
)
"""Names that are read."""
OTHER_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".ico", ".jp2", ".ppm", ".pgm", ".svg", ".tif", ".tiff"}
    | {".webp", ".dcm", ".raw"}
)
"""Names of images in other formats: leaving them out in silence would lose examples."""
MAX_PIXELS = 89_478_485
"""Larger images are refused (Pillow's own limit: 256 MB of colour)."""

_TURNED = frozenset({5, 6, 7, 8})
_ORIENTATION = 0x0112
_BEGINNINGS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"\0\0\0\x0cjP": "JPEG 2000",
}
"""How files of known formats begin."""
_BOXES = {b"avif": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF"}
_SNIFFED = 512


class BrokenImageError(ArchscoutError, ValueError):
    """A file that is no readable image; says why, not which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an image file says of itself."""

    height: int
    """Rows, once turned as its camera says."""
    width: int
    """Columns, likewise."""
    grey: bool
    """Whether it has no colour by its kind."""
    deep: bool
    """Whether it has more than 8 bits a pixel of grey."""
    halved: bool
    """Whether it has 16 bits a colour, of which only the upper 8 are read."""
    alpha: bool
    """Whether it says how transparent its pixels are."""


def content(path: Path) -> str | None:
    """The format in which a file begins, whatever it is called; None if it is no image."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file:
            start = file.read(_SNIFFED) or b""
    except OSError:
        return None
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[4:8] == b"ftyp":
        return _BOXES.get(start[8:12])
    if start[:2] == b"BM" and start[6:10] == bytes(4):
        return "BMP"
    return next((name for magic, name in _BEGINNINGS.items() if start.startswith(magic)), None)


def header(path: Path) -> Header:
    """Size and kind of an image, without unpacking it.

    Raises:
        BrokenImageError: It is none, or too large.
    """
    with _opened(path) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise BrokenImageError(f"{width} x {height} pixels, more than {MAX_PIXELS:,}")
        # A PNG that does not say so before its pixels would be unpacked to find out.
        says = image.format in {"JPEG", "MPO"} or "exif" in image.info
        if says and image.getexif().get(_ORIENTATION) in _TURNED:
            width, height = height, width
        deep = is_deep(image)
        return Header(
            height=height,
            width=width,
            grey=is_grey(image),
            deep=deep,
            halved=not deep and any(";16" in str(tile[-1]) for tile in getattr(image, "tile", ())),
            alpha=image.has_transparency_data,
        )


def read(path: Path, preprocessing: Preprocessing) -> NDArray[Any]:
    """One image as a network takes it: (channels, height, width).

    Raises:
        BrokenImageError: It cannot be read to its end.
    """
    with _opened(path) as image:
        return prepare(image, preprocessing)


def headers(paths: Sequence[Path]) -> list[Header | BrokenImageError]:
    """The headers of many files, the reason in place of one that has none."""

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
    """Many images, (N, channels, height, width), and why some of them could not be read."""
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
def _opened(path: Path) -> Iterator[Image.Image]:
    """An image file, with every way in which it can be broken told alike."""
    try:
        # Opened by us without blocking: a name may turn into a pipe after it was listed.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(descriptor, "rb") as file, Image.open(file, formats=FORMATS) as image:
            yield image
    except BrokenImageError:
        raise
    except UnidentifiedImageError:
        raise BrokenImageError(_inside(path)) from None
    except Image.DecompressionBombError:
        raise BrokenImageError(f"more than {MAX_PIXELS:,} pixels") from None
    except OSError as error:
        raise BrokenImageError(error.strerror or _first_line(error)) from error
    except MemoryError:
        raise BrokenImageError("too large for the memory there is") from None
    except Exception as error:  # decoders raise whatever a broken file makes of them
        raise BrokenImageError(_first_line(error)) from error


def _inside(path: Path) -> str:
    """What is in a file that is neither PNG nor JPEG."""
    try:
        if path.stat().st_size == 0:
            return "empty"
        with path.open("rb") as file:
            start = file.read(_SNIFFED).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError as error:
        return error.strerror or _first_line(error)
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    found = content(path)
    if found in FORMATS:
        return f"damaged {found}"
    return f"{found} inside, no PNG or JPEG" if found else "no PNG or JPEG inside"


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps Pillow's warnings about odd files back; set once for all threads, which share it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
