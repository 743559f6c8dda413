"""Small data sets of the search benchmarks, made from what a machine has; nothing is downloaded.

A full training of the default candidate takes 5 to 20 s of one core. Each data set is a function of
its seed; its digest is compared with the one that the recordings were made on.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.search.data import glyphs, textures
from search_spaces.task import Task
from workers.data import DataError, DataSpec, SplitSpec, load

SEED = 0
FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkData:
    """A data set of the benchmarks and the space that is searched on it."""

    digest: str
    """SHA-256 of the examples, as `workers.data.load` computes it."""
    spec: Callable[[Path], DataSpec]
    """Returns the spec, given the folder for files that have to be made."""
    task: Task
    """Inputs and outputs, as loaded."""
    space: str = "hybrid"
    """Built-in search space."""


def prepare(name: str, folder: Path) -> tuple[str, DataSpec]:
    """Return the space and the data of a benchmark, whose files are made once.

    Args:
        name: A key of `DATA`.
        folder: Folder for files that have to be made.

    Raises:
        DataError: A source is missing, or the examples differ from those of the recordings.
    """
    if name not in DATA:
        raise DataError(f"there is no data set {name!r}. Known: {', '.join(DATA)}.")
    data = DATA[name]
    spec = data.spec(folder)
    digest = load(spec).digest
    if digest != data.digest:
        raise DataError(
            f"{name}: the examples differ from those that were recorded (SHA-256 {digest[:12]}, "
            f"recorded {data.digest[:12]}); install the versions in constraints.txt, and delete "
            f"{spec.path or folder} if it is damaged"
        )
    return data.space, spec


def _digits(_: Path) -> DataSpec:
    return DataSpec(source="digits")


def _shapes(_: Path) -> DataSpec:
    return DataSpec(source="shapes", split=SplitSpec(validation=900, test=1_500))


def _fashion(_: Path) -> DataSpec:
    if not FASHION.is_dir():
        raise DataError(f"fashion5k: {FASHION} is missing; apt install dataset-fashion-mnist")
    return DataSpec(source="idx", path=str(FASHION), limit=5_000, split=SplitSpec(validation=2_500))


def _file(name: str, arrays: Callable[[], Mapping[str, NDArray[np.generic]]], folder: Path) -> Path:
    """Return the file of a data set, and make it unless it exists."""
    path = folder / f"{name}.npz"
    if not path.exists():
        print(f"making {path}: a few seconds", file=sys.stderr, flush=True)
        found = arrays()
        folder.mkdir(parents=True, exist_ok=True)
        # Renamed when complete: a killed run leaves no half of a file.
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as file:
            np.savez_compressed(file, **found)
        Path(file.name).replace(path)
    return path


def _textures(folder: Path) -> DataSpec:
    path = _file("textures", lambda: textures.arrays(textures.photographs(), SEED), folder)
    return DataSpec(source="npz", path=str(path))


def _glyphs(folder: Path) -> DataSpec:
    path = _file("glyphs", lambda: glyphs.arrays(glyphs.fonts(), SEED), folder)
    return DataSpec(source="npz", path=str(path))


def _table(folder: Path) -> DataSpec:
    return DataSpec(source="npz", path=str(_file("table", _clusters, folder)))


def _clusters() -> dict[str, NDArray[np.generic]]:
    """Return 20 columns of Gaussian clusters, several a class, on a hypercube (Guyon 2003).

    The tables that scikit-learn bundles have 178 to 569 rows: too few to see a point.
    """
    from sklearn.datasets import make_classification  # noqa: PLC0415 - takes a second

    rows, classes = make_classification(
        6_000,
        20,
        n_informative=10,
        n_redundant=4,
        n_classes=6,
        n_clusters_per_class=3,
        flip_y=0.02,
        class_sep=1.2,
        random_state=SEED,
    )
    rows = np.round(rows, 4).astype(np.float32)  # equal on machines that round sums differently
    ends = {"train": slice(0, 1_500), "val": slice(1_500, 3_000), "test": slice(3_000, None)}
    arrays = {f"x_{split}": rows[where] for split, where in ends.items()}
    return arrays | {f"y_{split}": classes[where] for split, where in ends.items()}


DATA: Mapping[str, BenchmarkData] = {
    "table": BenchmarkData(
        digest="f23741b8f83e97c4badfeb9cc9c1d7a53009f448eccdb4dd7d49158fa74a62fe",
        spec=_table,
        task=Task(inputs={"vector": (20,)}, num_classes=6),
        space="vector",
    ),
    "digits": BenchmarkData(
        digest="8caa5d5363301ac6f053bc3e7d7d6ba299e98a80d5dab0188047b14f57a4b19b",
        spec=_digits,
        task=Task(inputs={"image": (1, 8, 8)}, num_classes=10),
    ),
    "textures": BenchmarkData(
        digest="361999ed9798ad31a9e1a7bd7abe79d10c36879dbd20a4fbd573736fee8b2eec",
        spec=_textures,
        task=Task(inputs={"image": (3, 28, 28)}, num_classes=12),
    ),
    "glyphs": BenchmarkData(
        digest="4733e6424d858748a7390b245224031c1c9d525744099a3d601faa50e5147708",
        spec=_glyphs,
        task=Task(inputs={"image": (1, 28, 28)}, num_classes=34),
    ),
    "shapes": BenchmarkData(
        digest="89bc660b60ac3e4bb41b62f3b0c36d8f1526850cef277767b65f2251c226ccfc",
        spec=_shapes,
        task=Task(inputs={"image": (1, 24, 24)}, num_classes=4, num_values=1),
    ),
    "fashion5k": BenchmarkData(
        digest="cab68d816dce03354c069ffe9d0c80143c736a200d0fa5c6cfb552ce834ccb06",
        spec=_fashion,
        task=Task(inputs={"image": (1, 28, 28)}, num_classes=10),
    ),
}
"""Data sets by name."""
