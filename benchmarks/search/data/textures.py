"""Data set `textures`: patches of the photographs that the scikit-image wheel contains.

A photograph is divided into tiles, and each tile belongs to one split, so that no pixel is in two
splits. Patches vary in scale, orientation and color.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from workers.data import DataError

PHOTOGRAPHS = (
    "astronaut.png",
    "brick.png",
    "cell.png",
    "chelsea.png",
    "coffee.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "moon.png",
    "motorcycle_left.png",
)
"""Files of `skimage.data` in the wheel; each is a class."""
SIDE = 28
TILE = 50
"""Side of a tile in pixels."""
CUTS = (28, 48)
"""Smallest and largest side of a patch before it is scaled to `SIDE`."""
COUNTS = {"train": 100, "val": 60, "test": 100}
"""Patches of each class."""
SHARES = {"train": 0.5, "val": 0.2, "test": 0.3}
"""Fraction of the tiles."""


def photographs() -> dict[str, NDArray[np.uint8]]:
    """Return the photographs in color, by class name.

    Raises:
        DataError: scikit-image is not installed, or contains other files.
    """
    try:
        import skimage  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise DataError("textures: needs scikit-image; pip install -e .[bench]") from error
    folder = Path(skimage.__file__).parent / "data"
    if missing := [name for name in PHOTOGRAPHS if not (folder / name).is_file()]:
        raise DataError(f"textures: {folder} lacks {', '.join(missing)}; install scikit-image 0.26")
    return {
        name.partition(".")[0]: np.asarray(Image.open(folder / name).convert("RGB"))
        for name in PHOTOGRAPHS
    }


def arrays(images: Mapping[str, NDArray[np.uint8]], seed: int) -> dict[str, NDArray[np.generic]]:
    """Return the patches and classes of each split.

    Args:
        images: Photographs by class name, each of at least ten tiles.
        seed: Seed of the split and of the patches.
    """
    rng = np.random.default_rng([seed, 1])
    patches: dict[str, list[NDArray[np.uint8]]] = {split: [] for split in COUNTS}
    for image in images.values():
        for split, tiles in split_tiles(image.shape[0], image.shape[1], rng).items():
            for _ in range(COUNTS[split]):
                patches[split].append(_patch(image, tiles[rng.integers(len(tiles))], rng))
    found: dict[str, NDArray[np.generic]] = {"class_names": np.array(list(images))}
    for split, count in COUNTS.items():
        found[f"x_{split}"] = np.stack(patches[split])
        found[f"y_{split}"] = np.repeat(np.arange(len(images)), count)
    return found


def split_tiles(
    height: int, width: int, rng: np.random.Generator
) -> dict[str, NDArray[np.integer]]:
    """Return the top and left pixel of the tiles of each split, (N, 2); no tiles overlap."""
    corners = np.array(
        [
            (top, left)
            for top in range(0, height - TILE + 1, TILE)
            for left in range(0, width - TILE + 1, TILE)
        ]
    )
    ends = np.round(np.cumsum(list(SHARES.values())) * len(corners)).astype(int)
    return dict(zip(SHARES, np.split(rng.permutation(corners), ends[:-1]), strict=True))


def _patch(
    image: NDArray[np.uint8], corner: NDArray[np.integer], rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a square of a tile, scaled, turned, and with brightness and contrast a channel."""
    cut = int(rng.integers(CUTS[0], CUTS[1] + 1))
    top, left = corner + rng.integers(0, TILE - cut + 1, 2)
    square = Image.fromarray(image[top : top + cut, left : left + cut])
    turned = np.rot90(
        np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BILINEAR)), rng.integers(4)
    )
    if rng.random() < 0.5:
        turned = turned[:, ::-1]
    # Color alone would give the class away.
    gain, shift = rng.uniform(0.7, 1.3, 3), rng.uniform(-20, 20, 3)
    mean = turned.mean((0, 1))
    noise = rng.normal(0, 4, turned.shape)
    varied = (turned - mean) * gain + mean + shift + noise
    return np.clip(np.rint(varied), 0, 255).astype(np.uint8)
