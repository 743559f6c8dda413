"""Data sources, one per file, and the data sets that they give."""

from collections.abc import Callable, Mapping

from search_spaces.plugins import did_you_mean
from workers.data import arrays, constant, digits, folder, idx, pendulum, shapes
from workers.data.dataset import DataError, Dataset, RawData, Split, split_data
from workers.data.preprocessing import Preprocessing
from workers.data.spec import DataSpec, SplitSpec

__all__ = [
    "SOURCES",
    "DataError",
    "DataSpec",
    "Dataset",
    "Preprocessing",
    "Split",
    "SplitSpec",
    "load",
]

SOURCES: Mapping[str, Callable[[DataSpec], RawData]] = {
    "digits": digits.read,
    "folder": folder.read,
    "idx": idx.read,
    "npz": arrays.read,
    "pendulum": pendulum.read,
    "shapes": shapes.read,
    "surrogate": constant.read,
}
"""Reader of each source, by its name in a config."""


def load(spec: DataSpec, preprocessing: Preprocessing | None = None) -> Dataset:
    """Read a source and split it; equal specs and files give equal data sets.

    Args:
        spec: The source and its split.
        preprocessing: How to prepare the images of a folder; None follows the training images.

    Raises:
        DataError: There is no such source, or its data cannot be trained on.
    """
    read = SOURCES.get(spec.source)
    if read is None:
        raise DataError(
            f"data.source: there is no {spec.source!r}. Known: {', '.join(sorted(SOURCES))}."
            + did_you_mean(spec.source, SOURCES)
        )
    return split_data(folder.read(spec, preprocessing) if preprocessing else read(spec), spec)
