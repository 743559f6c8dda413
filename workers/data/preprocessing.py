"""Preprocessing of images and arrays into network inputs: bytes or floats of one fixed shape.

Bytes stay bytes; whatever does not fit into them, such as 16-bit pictures or arrays with fractions,
becomes float32 unscaled, since each channel is normalized before training anyway.

Training and prediction share this module. It imports only numpy and Pillow, because it is copied
into registered models.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

MAX_SIDE = 64
"""Maximum side in pixels that images are reduced to: a size that a CPU can search on."""
MIN_SIDE = 8
"""Minimum side in pixels: the first stages of a network halve it several times."""

_DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
"""Pillow modes of grayscale with more than 8 bits."""
_GREY = _DEEP | {"1", "L", "LA", "La"}
_VIA = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
"""Intermediate mode of modes that Pillow converts only in two steps."""
_DEEP_WHITE = 65535
_WHITES = (1.0, 255.0, float(_DEEP_WHITE))
"""Values of white that identify a picture: of fractions, bytes and 16 bits."""
_FAR = 10
_MAX_BEYOND = 0.05
"""A larger fraction of values `_FAR` ranges outside the training range means other units."""
_CHUNK = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Shape, type and range of a network's image inputs."""

    channels: int
    """Number of channels: 1 for grayscale, 3 for color, any number for arrays."""
    height: int
    """Height in pixels."""
    width: int
    """Width in pixels."""
    low: float = 0.0
    """Value of black in a picture; of other arrays, the minimum of the training split."""
    high: float = 255.0
    """Value of white in a picture; of other arrays, the maximum of the training split."""
    dtype: str = "uint8"
    """`uint8` for bytes; `float32` where bytes would lose precision.

    Models of earlier releases have arrays of any range in bytes, 0 for `low` and 255 for `high`.
    """

    @property
    def scales(self) -> bool:
        """True if arrays are scaled to bytes by their range, as in earlier releases."""
        return self.dtype == "uint8" and (self.low, self.high) != (0.0, 255.0)

    @property
    def takes_bytes(self) -> bool:
        """True if raw arrays are integers from 0 to 255."""
        return self.dtype == "uint8" and not self.scales

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for a model's files; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Return the preprocessing that `to_dict` wrote."""
        return cls(**data)

    @property
    def num_bytes(self) -> int:
        """Size of one prepared example in bytes."""
        return self.channels * self.height * self.width * np.dtype(self.dtype).itemsize

    def fitted(self, train: NDArray[Any]) -> "Preprocessing":
        """Return a copy with the range of a training split; bytes and 16 bits keep theirs."""
        if self.dtype == "uint8" or self.high == _DEEP_WHITE:
            return self
        low, high = float(train.min()), float(train.max())
        fractions = low >= 0 and high <= 1
        return replace(self, low=0.0 if fractions else low, high=1.0 if fractions else high)


def is_grayscale(image: Image.Image) -> bool:
    """Return whether an image's mode is grayscale."""
    return image.mode in _GREY


def is_deep(image: Image.Image) -> bool:
    """Return whether an image is grayscale with more than 8 bits per pixel."""
    return image.mode in _DEEP


def picture_preprocessing(channels: int, height: int, width: int, *, deep: bool) -> Preprocessing:
    """Return the preprocessing of pictures; `deep` ones have 16 bits."""
    if not deep:
        return Preprocessing(channels=channels, height=height, width=width)
    return Preprocessing(
        channels=channels, height=height, width=width, high=_DEEP_WHITE, dtype="float32"
    )


def common_size(heights: Sequence[int], widths: Sequence[int]) -> tuple[int, int]:
    """Return a common height and width: the medians, reduced to `MAX_SIDE`.

    Depends on the images alone, so that every machine prepares them equally.
    """
    height, width = statistics.median_low(heights), statistics.median_low(widths)
    scale = min(1.0, MAX_SIDE / max(height, width))
    return max(MIN_SIDE, round(height * scale)), max(MIN_SIDE, round(width * scale))


def prepare(image: Image.Image, preprocessing: Preprocessing) -> NDArray[Any]:
    """Prepare one image as network input, (channels, height, width).

    It is rotated by its EXIF orientation, composed over white, converted to grayscale or color and
    resized without keeping its aspect ratio. Large JPEG images are decoded at a reduced scale.

    Raises:
        ValueError: The network does not read images, or this one cannot be converted.
        OSError: The image's file is damaged.
    """
    p = preprocessing
    if p.channels not in {1, 3}:
        raise ValueError(f"the network reads {p.channels} channels: arrays, not images")
    if p.dtype != "uint8" and (p.low != 0 or p.high not in _WHITES):
        raise ValueError(
            f"the network reads arrays of numbers, {p.low:g} to {p.high:g} in training, where "
            "no value is white: give .npy or .npz files"
        )
    size = (p.width, p.height)
    twice = 2 * max(size)  # leaves enough pixels to smooth; any orientation
    image.draft(None, (twice, twice))
    upright = ImageOps.exif_transpose(image)
    if p.dtype == "uint8":
        return _resized(_of_kind(_as_bytes(upright), p.channels), size, np.uint8)
    if is_deep(upright):
        levels = np.asarray(upright).astype(np.float32)
        levels[levels == upright.info.get("transparency")] = _DEEP_WHITE
        values = _resized(Image.fromarray(levels), size, np.float32)
        scale = p.high / _DEEP_WHITE
    else:
        planes = _of_kind(_as_bytes(upright), p.channels).split()
        values = np.concatenate([_resized(each.convert("F"), size, np.float32) for each in planes])
        scale = p.high / 255
    scaled = np.nan_to_num(values, nan=0.0) * np.float32(scale)
    return np.ascontiguousarray(np.broadcast_to(scaled, (p.channels, p.height, p.width)))


def _of_kind(image: Image.Image, channels: int) -> Image.Image:
    """Return the image in grayscale or color."""
    wanted = "L" if channels == 1 else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _resized(image: Image.Image, size: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """Return the pixels, (channels, height, width), resized to `size` (width, height)."""
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=dtype)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _as_bytes(image: Image.Image) -> Image.Image:
    """Return the image as grayscale or color with 8 bits, composed over white."""
    if image.mode in _VIA:
        image = image.convert(_VIA[image.mode])
    if image.has_transparency_data and not is_deep(image):
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode in {"1", "L", "LA"}:
        return image.convert("L")
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), nan=0.0)
        return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))
    if image.mode in _GREY:
        # 16 bits; modes with 32 bits contain 16 in every format that is read here.
        deep = np.clip(np.asarray(image).astype(np.int64), 0, _DEEP_WHITE)
        return Image.fromarray(((deep * 255 + 32767) // _DEEP_WHITE).astype(np.uint8))
    return image.convert("RGB")


def prepare_arrays(values: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    """Prepare image arrays as network input, (N, channels, height, width).

    Args:
        values: Finite numbers, (N, H, W), (N, H, W, C) or (N, C, H, W).
        preprocessing: Shape and type of the input; nothing is resized or scaled.

    Raises:
        ValueError: They have another shape or range, or contain NaN or infinity.
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
            f"examples have the shape {shape}; the network reads "
            f"{p.channels} channels of {p.height} x {p.width}"
        )
    if values.dtype == np.uint8 and p.dtype == "uint8" and not p.scales:
        return np.ascontiguousarray(values)
    _check_range(values, p)
    prepared = np.empty(values.shape, dtype=p.dtype)
    for start, chunk in _chunks(values):
        taken = prepared[start : start + _CHUNK]
        with np.errstate(over="ignore"):
            taken[...] = np.rint(_in_range(chunk, p)) if p.dtype == "uint8" else chunk
        if not np.isfinite(taken).all():
            raise ValueError("the values exceed 3e38; give them in a larger unit")
    return prepared


def _in_range(values: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    """Return values that fit into bytes."""
    p = preprocessing
    if not p.scales:
        return values
    return np.clip((values.astype(np.float64) - p.low) * (255 / (p.high - p.low)), 0, 255)


def _check_range(values: NDArray[Any], preprocessing: Preprocessing) -> None:
    """Refuse arrays that are not in the units of the training split.

    Raises:
        ValueError: Fractions instead of bytes, or bytes instead of fractions; values outside of
            bytes; NaN or infinity.
    """
    if values.size == 0:
        return
    if reason := unit_mismatch(preprocessing, values):
        raise ValueError(reason)


def unit_mismatch(preprocessing: Preprocessing, values: NDArray[Any]) -> str | None:
    """Return the reason why arrays are not in the units of the training split; None if they are.

    Raises:
        ValueError: They contain NaN or infinity.
    """
    p, (low, high) = preprocessing, extremes(values)
    floats = values.dtype.kind == "f"
    fix = ""
    if p.takes_bytes:
        if low < 0 or high > 255:
            fix = "scale them alike"
        elif floats and 0 < high <= 1:
            fix = "multiply them by 255"
    elif (p.low, p.high) == (0.0, 1.0) and low >= 0 and high > (10 if floats else 1):
        fix = "divide them"
    elif not p.scales and _is_far(values, low, high, p):
        fix = "scale them alike"
    if not fix:
        return None
    return (
        f"its values range from {low:g} to {high:g}, those of training from "
        f"{p.low:g} to {p.high:g}; {fix}"
    )


def _is_far(values: NDArray[Any], low: float, high: float, p: Preprocessing) -> bool:
    """Return whether all values, or too many for outliers, are outside the training range."""
    span = p.high - p.low
    if low > p.high + span or high < p.low - span:
        return True
    sample = values[:: max(1, len(values) // _CHUNK)].astype(np.float64)
    beyond = (sample < p.low - _FAR * span) | (sample > p.high + _FAR * span)
    return float(beyond.mean()) > _MAX_BEYOND


def prepare_vectors(values: NDArray[Any], width: int) -> NDArray[np.float32]:
    """Prepare vectors as network input, (N, F), unscaled.

    Args:
        values: Finite numbers, (N, F).
        width: Number of features F of the network.

    Raises:
        ValueError: They have another shape, or contain NaN or infinity.
    """
    if values.dtype.kind not in "buif":
        raise ValueError(f"is of type {values.dtype}; examples must be numbers")
    if values.shape[1:] != (width,):
        raise ValueError(
            f"examples have the shape {values.shape[1:]}; the network reads vectors of {width}"
        )
    with np.errstate(over="ignore"):
        prepared = values.astype(np.float32)
    if not (finite := np.isfinite(prepared).all(axis=1)).all():
        raise ValueError(
            f"NaN or infinity in example {int(np.argmin(finite))}; correct or remove such examples"
        )
    return prepared


def extremes(values: NDArray[Any]) -> tuple[float, float]:
    """Return the minimum and the maximum.

    Raises:
        ValueError: The values contain NaN or infinity.
    """
    low, high = np.inf, -np.inf
    for start, chunk in _chunks(values):
        if not (finite := np.isfinite(chunk)).all():
            raise ValueError(_not_finite(start, finite))
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
    return low, high


def array_dtype(values: NDArray[Any]) -> str:
    """Return the type that keeps a training array's precision: bytes for integers from 0 to 255.

    Values from 0 to 1 are fractions of white, integers or not.
    """
    if values.dtype == np.uint8:
        return "uint8"
    low, high = extremes(values)
    whole = all(bool((chunk == np.floor(chunk)).all()) for _, chunk in _chunks(values))
    return "uint8" if whole and low >= 0 and 1 < high <= 255 else "float32"


def _not_finite(start: int, finite: NDArray[np.bool_]) -> str:
    first = start + int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
    return f"NaN or infinity in example {first}; correct or remove such examples"


def _chunks(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield the examples in chunks, so that no copy of all of them is made."""
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        yield start, chunk.astype(np.uint8) if chunk.dtype == np.bool_ else chunk
