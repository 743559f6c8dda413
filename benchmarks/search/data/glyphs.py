"""Data set `glyphs`: letters and digits in the fonts of Debian, distorted and noisy."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from workers.data import DataError

CHARACTERS = "ABCDEFGHIJKLMNPQRSTUVWXYZ123456789"
"""Classes; O and 0 look the same in many fonts."""
FONTS = Path("/usr/share/fonts/truetype")
FILES = tuple(
    f"{family}-{style}.ttf"
    for family, styles in {
        "dejavu/DejaVuSans": ("Bold", "BoldOblique", "ExtraLight", "Oblique"),
        "dejavu/DejaVuSansMono": ("Bold", "Oblique"),
        "dejavu/DejaVuSerif": ("Bold", "BoldItalic", "Italic"),
        "liberation/LiberationMono": ("BoldItalic", "Regular"),
        "liberation/LiberationSansNarrow": ("Bold", "Italic", "Regular"),
        "liberation/LiberationSerif": ("Bold", "Italic", "Regular"),
    }.items()
    for style in styles
)
"""Fonts of the packages fonts-dejavu and fonts-liberation, relative to `FONTS`."""
SIDE = 28
COUNTS = {"train": 40, "val": 25, "test": 50}
"""Images of each class."""

Font = Callable[[int], ImageFont.FreeTypeFont | ImageFont.ImageFont]
"""Returns the font at a size in pixels."""


def fonts() -> list[Font]:
    """Return the fonts.

    Raises:
        DataError: One is not installed.
    """
    if missing := [name for name in FILES if not (FONTS / name).is_file()]:
        raise DataError(
            f"glyphs: {FONTS} lacks {missing[0]} and {len(missing) - 1} more; "
            "apt install fonts-dejavu fonts-liberation"
        )
    return [cache(partial(ImageFont.truetype, str(FONTS / name))) for name in FILES]


def arrays(fonts: list[Font], seed: int) -> dict[str, NDArray[np.generic]]:
    """Return the images and classes of each split; each image is rendered once."""
    rng = np.random.default_rng([seed, 2])
    found: dict[str, NDArray[np.generic]] = {"class_names": np.array(list(CHARACTERS))}
    for split, count in COUNTS.items():
        found[f"x_{split}"] = np.stack(
            [_glyph(each, fonts, rng) for each in CHARACTERS for _ in range(count)]
        )
        found[f"y_{split}"] = np.repeat(np.arange(len(CHARACTERS)), count)
    return found


def _glyph(character: str, fonts: list[Font], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return one character: rotated, sheared, shifted, over a gradient, with a line and noise."""
    large = Image.new("L", (2 * SIDE, 2 * SIDE))
    draw = ImageDraw.Draw(large)
    font = fonts[rng.integers(len(fonts))](int(rng.integers(28, 48)))
    draw.text((SIDE, SIDE), character, fill=255, font=font, anchor="mm")
    slant, turn = rng.uniform(-0.25, 0.25), rng.uniform(-0.25, 0.25)
    shift_x, shift_y = rng.uniform(-5, 5, 2)
    # About the center: x' = x + slant y, y' = y - turn x.
    moved = (1, slant, shift_x - slant * SIDE, -turn, 1, shift_y + turn * SIDE)
    large = large.transform(large.size, Image.Transform.AFFINE, moved, Image.Resampling.BILINEAR)
    ends = rng.integers(0, 2 * SIDE, 4)
    ImageDraw.Draw(large).line([int(end) for end in ends], fill=int(rng.integers(60, 256)), width=2)
    ink = np.asarray(large.reduce(2)) / 255
    across, down = np.meshgrid(np.linspace(-1, 1, SIDE), np.linspace(-1, 1, SIDE))
    background = 0.2 + rng.uniform(-0.1, 0.1) * across + rng.uniform(-0.1, 0.1) * down
    brightness = rng.uniform(0.3, 0.7)
    image = background + brightness * ink + rng.normal(0, 0.11, ink.shape)
    return np.clip(np.rint(255 * image), 0, 255).astype(np.uint8)
