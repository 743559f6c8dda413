"""Source `shapes`: simulated grayscale images of four shapes, each rotated by an angle to predict.

Two tasks, class and angle, over one input without any file. The shapes have rotational symmetries
of 90, 120 or 180 degrees, so angles within 30 degrees either way are unambiguous.
"""

import numpy as np
from numpy.typing import NDArray

from workers.data.dataset import DataError, RawData, Split
from workers.data.spec import DataSpec

# N examples, H height, W width

NAMES = ("cross", "ellipse", "square", "triangle")
COUNT = 3_000
SIDE = 24
MAX_DEGREES = 30.0
NOISE = 0.12
"""Standard deviation of a pixel's brightness; the shapes are 0.3 to 1 above the background."""


def read(spec: DataSpec) -> RawData:
    """Sample shapes of random position, size, brightness and angle; seeded by the split seed.

    Raises:
        DataError: The spec names a path, which this source does not use.
    """
    if spec.path is not None:
        raise DataError(
            "data.path: the shapes are simulated; remove the path, or use another source"
        )
    generator = np.random.default_rng([spec.split.seed, 0])
    targets = np.arange(COUNT, dtype=np.int64) % len(NAMES)
    degrees_N = generator.uniform(-MAX_DEGREES, MAX_DEGREES, COUNT)
    sizes_N = generator.uniform(4.5, 7.5, COUNT)
    across_NHW, down_NHW = _coordinates(degrees_N, generator)
    edge_NHW = np.empty((COUNT, SIDE, SIDE))
    for label, distance in enumerate((_cross, _ellipse, _square, _triangle)):
        one = targets == label
        edge_NHW[one] = distance(across_NHW[one], down_NHW[one], sizes_N[one, None, None])
    bright_N = generator.uniform(0.3, 1.0, COUNT)
    images_NHW = 0.15 + bright_N[:, None, None] * np.clip(0.5 - edge_NHW, 0.0, 1.0)
    images_NHW += generator.normal(0.0, NOISE, images_NHW.shape)
    pixels = np.rint(255 * np.clip(images_NHW / 1.15, 0.0, 1.0)).astype(np.uint8)
    return RawData(
        pool=Split(
            inputs={"image": pixels[:, None]},
            targets=targets,
            values=degrees_N.astype(np.float32)[:, None],
        ),
        class_names=NAMES,
        value_names=("degrees",),
    )


def _coordinates(
    degrees_N: NDArray[np.float64], generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return each pixel's coordinates in its shape's rotated frame, relative to the center."""
    centres_2N = SIDE / 2 - 0.5 + generator.uniform(-3.5, 3.5, (2, len(degrees_N)))
    pixels = np.arange(SIDE, dtype=np.float64)
    right_NHW = pixels[None, None, :] - centres_2N[0, :, None, None]
    below_NHW = pixels[None, :, None] - centres_2N[1, :, None, None]
    cos_N, sin_N = (f(np.deg2rad(degrees_N))[:, None, None] for f in (np.cos, np.sin))
    return right_NHW * cos_N + below_NHW * sin_N, below_NHW * cos_N - right_NHW * sin_N


# Signed distances from a shape's edge in pixels, negative inside; exact near the edge only.
_Pixels = NDArray[np.float64]


def _square(across: _Pixels, down: _Pixels, size: _Pixels) -> _Pixels:
    return np.maximum(np.abs(across), np.abs(down)) - 0.85 * size


def _ellipse(across: _Pixels, down: _Pixels, size: _Pixels) -> _Pixels:
    radius = np.sqrt((across / (1.15 * size)) ** 2 + (down / (0.6 * size)) ** 2)
    return (radius - 1) * 0.6 * size


def _cross(across: _Pixels, down: _Pixels, size: _Pixels) -> _Pixels:
    upright = np.maximum(np.abs(across) - size / 3, np.abs(down) - size)
    return np.minimum(upright, np.maximum(np.abs(across) - size, np.abs(down) - size / 3))


def _triangle(across: _Pixels, down: _Pixels, size: _Pixels) -> _Pixels:
    sides: list[_Pixels] = [
        across * np.sin(turn) + down * np.cos(turn) for turn in np.deg2rad([0, 120, 240])
    ]
    return np.maximum(sides[0], np.maximum(sides[1], sides[2])) - 0.6 * size
