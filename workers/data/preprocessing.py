"""How an image or an array becomes what a network takes: bytes or numbers of one fixed shape.

Loading and prediction both go through here, so that a model meets in use what it met in training.
Stands alone (numpy and Pillow): it can travel with a model.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

LARGEST_SIDE = 64
"""Pixels of the longer side that images are reduced to: what a CPU can search on."""
SMALLEST_SIDE = 8
"""Pixels that every side has at least: less is gone after the first stages of a network."""

_GREY = frozenset({"1", "L", "LA", "La", "I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
_THROUGH = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
"""Kinds that Pillow converts in two steps only."""
_PART = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """What a network takes, and which value of an array is dark and which is bright."""

    channels: int
    """1 for grey, 3 for colour, or as many as arrays have."""
    height: int
    """Rows of pixels."""
    width: int
    """Columns of pixels."""
    low: float = 0.0
    """The value of an array that becomes 0; pictures are bytes already."""
    high: float = 255.0
    """The value of an array that becomes 255."""

    def to_dict(self) -> dict[str, Any]:
        """Plain data that travels with a model; `from_dict` undoes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote."""
        return cls(**data)


def is_grey(image: Image.Image) -> bool:
    """Whether an image has no colour by its kind, whatever its pixels are."""
    return image.mode in _GREY


def common_size(heights: Sequence[int], widths: Sequence[int]) -> tuple[int, int]:
    """Height and width for all of these images: the medians, reduced to what can be searched on.

    Depends on the images alone, so that every machine prepares them alike.
    """
    height, width = statistics.median_low(heights), statistics.median_low(widths)
    scale = min(1.0, LARGEST_SIDE / max(height, width))
    return max(SMALLEST_SIDE, round(height * scale)), max(SMALLEST_SIDE, round(width * scale))


def prepare(image: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """One image as a network takes it: (channels, height, width).

    It is turned as its camera says, loses its alpha, becomes grey or colour and is resized
    without regard to its proportions. Large JPEG images are read at a reduced scale.

    Raises:
        ValueError: The network takes no images, or this one cannot be converted.
        OSError: The image's file is damaged.
    """
    if preprocessing.channels not in {1, 3}:
        raise ValueError(f"the network takes {preprocessing.channels} channels: arrays, not images")
    size = (preprocessing.width, preprocessing.height)
    twice = 2 * max(size)  # enough left for smoothing; any orientation
    image.draft(None, (twice, twice))
    plain = _as_bytes(ImageOps.exif_transpose(image))
    wanted = "L" if preprocessing.channels == 1 else "RGB"
    if plain.mode != wanted:
        plain = plain.convert(wanted)
    if plain.size != size:
        plain = plain.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(plain, dtype=np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _as_bytes(image: Image.Image) -> Image.Image:
    """The image as grey or colour of 8 bits, without alpha."""
    if image.mode in _THROUGH:
        image = image.convert(_THROUGH[image.mode])
    if image.mode in {"1", "L", "LA"}:
        return image.convert("L")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), nan=0.0)
        return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))
    if image.mode in _GREY:
        # 16 bits; what is stored with 32 holds 16 of them in every format that is read here.
        deep = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    return image.convert("RGB")


def prepare_arrays(values: NDArray[Any], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Several examples as a network takes them: (examples, channels, height, width).

    Args:
        values: (N, H, W), (N, H, W, C) or (N, C, H, W) of finite numbers.
        preprocessing: What the network takes; nothing is resized.

    Raises:
        ValueError: They have another shape, or hold what is no number.
    """
    if values.dtype.kind not in "buif":
        raise ValueError(f"the values are of type {values.dtype}, not numbers")
    p = preprocessing
    shape = values.shape[1:]
    if shape == (p.height, p.width, p.channels):
        values = np.moveaxis(values, -1, 1)
    elif shape == (p.height, p.width) and p.channels == 1:
        values = values[:, None]
    elif shape != (p.channels, p.height, p.width):
        raise ValueError(
            f"examples have the shape {shape}; the network takes "
            f"{p.channels} channels of {p.height} x {p.width}"
        )
    if values.dtype == np.uint8 and (p.low, p.high) == (0.0, 255.0):
        return np.ascontiguousarray(values)
    prepared = np.empty(values.shape, dtype=np.uint8)
    for start, part in _parts(values):
        if not np.isfinite(part).all():
            raise ValueError("the values hold NaN or infinity; mend or remove such examples")
        scaled = (part.astype(np.float64) - p.low) * (255 / (p.high - p.low))
        prepared[start : start + _PART] = np.rint(np.clip(scaled, 0, 255))
    return prepared


def prepare_vectors(values: NDArray[Any], width: int) -> NDArray[np.float32]:
    """Several vectors as a network takes them: (examples, numbers), not scaled.

    Args:
        values: (N, F) finite numbers.
        width: How many numbers the network takes.

    Raises:
        ValueError: They have another shape, or hold what is no number.
    """
    if values.dtype.kind not in "buif":
        raise ValueError(f"is of type {values.dtype}; examples are numbers")
    if values.shape[1:] != (width,):
        raise ValueError(
            f"examples have the shape {values.shape[1:]}; the network takes vectors of {width}"
        )
    with np.errstate(over="ignore"):
        prepared = values.astype(np.float32)
    if not (finite := np.isfinite(prepared).all(axis=1)).all():
        raise ValueError(
            f"NaN or infinity in example {int(np.argmin(finite))}; mend or remove such examples"
        )
    return prepared


def value_range(values: NDArray[Any]) -> tuple[float, float]:
    """Which values mean dark and bright: those of bytes, shares of 1, or the extremes found.

    Raises:
        ValueError: NaN or infinity among them, or nothing but one value.
    """
    if values.dtype == np.uint8:
        return 0.0, 255.0
    low, high, whole = np.inf, -np.inf, True
    for start, part in _parts(values):
        finite = np.isfinite(part)
        if not finite.all():
            first = start + int(np.argmin(finite.reshape(len(part), -1).all(axis=1)))
            raise ValueError(f"NaN or infinity in example {first}; mend or remove such examples")
        low, high = min(low, float(part.min())), max(high, float(part.max()))
        whole = whole and bool((np.floor(part) == part).all())
    if low >= 0 and high <= 1 and high > 0:
        return 0.0, 1.0
    if whole and low >= 0 and high <= 255:
        return 0.0, 255.0
    if low == high:
        raise ValueError(f"every value is {low:g}: nothing to learn from; save images that differ")
    return low, high


def _parts(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The examples by the thousand, so that no copy of all of them is made."""
    for start in range(0, len(values), _PART):
        part = values[start : start + _PART]
        yield start, part.astype(np.uint8) if part.dtype == np.bool_ else part
