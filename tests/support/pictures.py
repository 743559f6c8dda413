"""Real images as their owners keep them: handwritten digits as files in folders."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@cache
def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The 1,797 digits of scikit-learn in bytes, and what they show."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    return np.rint(bundle.images * (255 / 16)).astype(np.uint8), bundle.target.astype(np.int64)


def write_digits(
    root: Path, chosen: Iterable[int] = range(200), *, suffix: str = "png", classes: int = 10
) -> Path:
    """Writes some of the digits as files, a folder for each class."""
    images, targets = digits()
    for index in chosen:
        if targets[index] < classes:
            folder = root / str(targets[index])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[index]).save(folder / f"{index:04d}.{suffix}")
    return root
