"""How an image or an array becomes what a network takes: bytes or floats of one fixed shape.

Bytes stay bytes; whatever does not fit into them, such as 16-bit pictures or arrays with fractions,
stays as it is in float32, since each channel is normalised before training anyway.

Loading and prediction both go through here, so that a model meets in use what it met in training.
Stands alone (numpy and Pillow): it can travel with a model.
"""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

MAX_SIDE = 64
"""Pixels of the longer side that images are reduced to: what a CPU can search on."""
MIN_SIDE = 8
"""Pixels that every side has at least: less is gone after the first stages of a network."""

_DEEP = frozenset({"I", "F", "I;16", "I;16L", "I;16B", "I;16N"})
"""Grey of more than 8 bits."""
_GREY = _DEEP | {"1", "L", "LA", "La"}
_THROUGH = {"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}
"""Kinds that Pillow converts in two steps only."""
_DEEP_WHITE = 65535
_WHITES = (1.0, 255.0, float(_DEEP_WHITE))
"""Values of white from which a picture can be told: of shares, bytes and 16 bits."""
_FAR = 10
_MAX_BEYOND = 0.05
"""More values that lie so many spans outside the training range are in other units."""
_PART = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Shape, type and range of the images that a network takes."""

    channels: int
    """1 for grey, 3 for colour, or as many as arrays have."""
    height: int
    """Rows of pixels."""
    width: int
    """Columns of pixels."""
    low: float = 0.0
    """Black in a picture; of other arrays, the least value of the training split."""
    high: float = 255.0
    """White in a picture; of other arrays, the greatest value of the training split."""
    dtype: str = "uint8"
    """`uint8` for bytes; `float32` where bytes would lose something.

    Models of earlier releases have arrays of any range in bytes, 0 for `low` and 255 for `high`.
    """

    @property
    def scales(self) -> bool:
        """Whether arrays become bytes by their range, as earlier releases had it."""
        return self.dtype == "uint8" and (self.low, self.high) != (0.0, 255.0)

    @property
    def takes_bytes(self) -> bool:
        """Whether arrays are whole numbers of 0 to 255 before anything is done to them."""
        return self.dtype == "uint8" and not self.scales

    def to_dict(self) -> dict[str, Any]:
        """Plain data that travels with a model; `from_dict` undoes it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """What `to_dict` wrote."""
        return cls(**data)

    @property
    def num_bytes(self) -> int:
        """Size of one prepared example."""
        return self.channels * self.height * self.width * np.dtype(self.dtype).itemsize

    def fitted(self, train: NDArray[Any]) -> "Preprocessing":
        """The same with the range of a training split; bytes and 16-bit pictures have theirs."""
        if self.dtype == "uint8" or self.high == _DEEP_WHITE:
            return self
        low, high = float(train.min()), float(train.max())
        shares = low >= 0 and high <= 1
        return replace(self, low=0.0 if shares else low, high=1.0 if shares else high)


def is_grey(image: Image.Image) -> bool:
    """Whether an image has no colour by its kind, whatever its pixels are."""
    return image.mode in _GREY


def is_deep(image: Image.Image) -> bool:
    """Whether an image has more than 8 bits a pixel of grey."""
    return image.mode in _DEEP


def pictures(channels: int, height: int, width: int, *, deep: bool) -> Preprocessing:
    """The preprocessing of pictures; `deep` ones have 16 bits."""
    if not deep:
        return Preprocessing(channels=channels, height=height, width=width)
    return Preprocessing(
        channels=channels, height=height, width=width, high=_DEEP_WHITE, dtype="float32"
    )


def common_size(heights: Sequence[int], widths: Sequence[int]) -> tuple[int, int]:
    """Height and width for all of these images: the medians, reduced to what can be searched on.

    Depends on the images alone, so that every machine prepares them alike.
    """
    height, width = statistics.median_low(heights), statistics.median_low(widths)
    scale = min(1.0, MAX_SIDE / max(height, width))
    return max(MIN_SIDE, round(height * scale)), max(MIN_SIDE, round(width * scale))


def prepare(image: Image.Image, preprocessing: Preprocessing) -> NDArray[Any]:
    """One image as a network takes it: (channels, height, width).

    It is turned as its camera says, is laid over white where it is transparent, becomes grey or
    colour and is resized without regard to its proportions. Large JPEG images are read at a reduced
    scale.

    Raises:
        ValueError: The network takes no images, or this one cannot be converted.
        OSError: The image's file is damaged.
    """
    p = preprocessing
    if p.channels not in {1, 3}:
        raise ValueError(f"the network takes {p.channels} channels: arrays, not images")
    if p.dtype != "uint8" and (p.low != 0 or p.high not in _WHITES):
        raise ValueError(
            f"the network takes arrays of numbers, in training {p.low:g} to {p.high:g}, of which "
            "none is white: give .npy or .npz files"
        )
    size = (p.width, p.height)
    twice = 2 * max(size)  # enough left for smoothing; any orientation
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
    """The image in grey or colour."""
    wanted = "L" if channels == 1 else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _resized(image: Image.Image, size: tuple[int, int], dtype: Any) -> NDArray[Any]:
    """The pixels (channels, height, width) at a size of (width, height)."""
    if image.size != size:
        image = image.resize(size, Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=dtype)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _as_bytes(image: Image.Image) -> Image.Image:
    """The image as grey or colour of 8 bits, on white where it is transparent."""
    if image.mode in _THROUGH:
        image = image.convert(_THROUGH[image.mode])
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
        # 16 bits; what is stored with 32 holds 16 of them in every format that is read here.
        deep = np.clip(np.asarray(image).astype(np.int64), 0, _DEEP_WHITE)
        return Image.fromarray(((deep * 255 + 32767) // _DEEP_WHITE).astype(np.uint8))
    return image.convert("RGB")


def prepare_arrays(values: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    """Several examples as a network takes them: (examples, channels, height, width).

    Args:
        values: (N, H, W), (N, H, W, C) or (N, C, H, W) of finite numbers.
        preprocessing: What the network takes; nothing is resized or scaled.

    Raises:
        ValueError: They have another shape or another range, or contain what is no number.
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
    if values.dtype == np.uint8 and p.dtype == "uint8" and not p.scales:
        return np.ascontiguousarray(values)
    _check_range(values, p)
    prepared = np.empty(values.shape, dtype=p.dtype)
    for start, part in _parts(values):
        taken = prepared[start : start + _PART]
        with np.errstate(over="ignore"):
            taken[...] = np.rint(_in_range(part, p)) if p.dtype == "uint8" else part
        if not np.isfinite(taken).all():
            raise ValueError("the values reach beyond 3e38; give them in a larger unit")
    return prepared


def _in_range(values: NDArray[Any], preprocessing: Preprocessing) -> NDArray[Any]:
    """Values that fit into bytes."""
    p = preprocessing
    if not p.scales:
        return values
    return np.clip((values.astype(np.float64) - p.low) * (255 / (p.high - p.low)), 0, 255)


def _check_range(values: NDArray[Any], preprocessing: Preprocessing) -> None:
    """Refuse arrays that are not in the units of the training split.

    Raises:
        ValueError: Shares of 1 where bytes are meant, or the other way round; no bytes; NaN or
            infinity.
    """
    if values.size == 0:
        return
    if reason := unit_mismatch(preprocessing, values):
        raise ValueError(reason)


def unit_mismatch(preprocessing: Preprocessing, values: NDArray[Any]) -> str | None:
    """Why arrays are not in the units of the training split; None if they are.

    Raises:
        ValueError: NaN or infinity among them.
    """
    p, (low, high) = preprocessing, extremes(values)
    floats = values.dtype.kind == "f"
    way_out = ""
    if p.takes_bytes:
        if low < 0 or high > 255:
            way_out = "scale them alike"
        elif floats and 0 < high <= 1:
            way_out = "multiply them by 255"
    elif (p.low, p.high) == (0.0, 1.0) and low >= 0 and high > (10 if floats else 1):
        way_out = "divide them"
    elif not p.scales and _is_far(values, low, high, p):
        way_out = "scale them alike"
    if not way_out:
        return None
    return (
        f"its values reach from {low:g} to {high:g}, those of training from "
        f"{p.low:g} to {p.high:g}; {way_out}"
    )


def _is_far(values: NDArray[Any], low: float, high: float, p: Preprocessing) -> bool:
    """Whether values lie outside the training range: all of them, or too many for outliers."""
    span = p.high - p.low
    if low > p.high + span or high < p.low - span:
        return True
    sample = values[:: max(1, len(values) // _PART)].astype(np.float64)
    beyond = (sample < p.low - _FAR * span) | (sample > p.high + _FAR * span)
    return float(beyond.mean()) > _MAX_BEYOND


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


def extremes(values: NDArray[Any]) -> tuple[float, float]:
    """The least and the greatest value.

    Raises:
        ValueError: NaN or infinity among them.
    """
    low, high = np.inf, -np.inf
    for start, part in _parts(values):
        if not (finite := np.isfinite(part)).all():
            raise ValueError(_not_finite(start, finite))
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high


def array_dtype(values: NDArray[Any]) -> str:
    """The type in which a training array loses nothing: bytes for whole numbers of 0 to 255.

    What lies between 0 and 1 counts as shares of white, whole or not.
    """
    if values.dtype == np.uint8:
        return "uint8"
    low, high = extremes(values)
    whole = all(bool((part == np.floor(part)).all()) for _, part in _parts(values))
    return "uint8" if whole and low >= 0 and 1 < high <= 255 else "float32"


def _not_finite(start: int, finite: NDArray[np.bool_]) -> str:
    first = start + int(np.argmin(finite.reshape(len(finite), -1).all(axis=1)))
    return f"NaN or infinity in example {first}; correct or remove such examples"


def _parts(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """The examples by the thousand, so that no copy of all of them is made."""
    for start in range(0, len(values), _PART):
        part = values[start : start + _PART]
        yield start, part.astype(np.uint8) if part.dtype == np.bool_ else part
