"""Data sets of the search benchmarks: deterministic, with disjoint splits, refused when changed."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from benchmarks.search.data import datasets, glyphs, textures
from workers.data import DataError, load


def photographs(count: int) -> dict[str, np.ndarray]:
    """Return photographs whose every pixel has a value of its own, hidden by no noise."""
    rng = np.random.default_rng(5)
    return {f"p{i}": rng.integers(0, 256, (260, 310, 3), dtype=np.uint8) for i in range(count)}


@pytest.mark.parametrize("seed", [0, 1])
def test_no_pixel_of_a_photograph_is_in_two_splits(seed: int) -> None:
    tiles = textures.split_tiles(512, 451, np.random.default_rng(seed))
    owners = np.zeros((512, 451), dtype=int)
    for corners in tiles.values():
        for top, left in corners:
            owners[top : top + textures.TILE, left : left + textures.TILE] += 1

    assert owners.max() == 1
    assert {split: len(corners) for split, corners in tiles.items()} == {
        "train": 45, "val": 18, "test": 27
    }  # fmt: skip


def test_patches_stay_inside_the_tiles_of_their_split(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []

    class Photograph(np.ndarray):
        def __getitem__(self, index: object) -> object:
            rows, columns = index  # type: ignore[misc]
            read.append((rows.start, columns.start))
            assert rows.stop - (rows.start // textures.TILE) * textures.TILE <= textures.TILE
            assert columns.stop - (columns.start // textures.TILE) * textures.TILE <= textures.TILE
            return np.asarray(self)[index]  # type: ignore[index]

    monkeypatch.setattr(textures, "COUNTS", {"train": 40, "val": 40, "test": 40})
    image = photographs(1)["p0"].view(Photograph)

    textures.arrays({"one": image, "two": image}, 0)

    assert len(read) == 2 * 3 * 40


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> list[glyphs.Font]:
    """Return the font that Pillow contains; few images are made of each class."""
    monkeypatch.setattr(glyphs, "COUNTS", {"train": 4, "val": 3, "test": 3})
    monkeypatch.setattr(textures, "COUNTS", {"train": 4, "val": 3, "test": 3})
    return [cache(ImageFont.load_default)]


def test_textures_and_glyphs_depend_on_their_seed_alone(fonts: list[glyphs.Font]) -> None:
    for first, again, other in (
        [textures.arrays(photographs(2), seed) for seed in (0, 0, 1)],
        [glyphs.arrays(fonts, seed) for seed in (0, 0, 1)],
    ):
        assert all(np.array_equal(first[name], again[name]) for name in first)
        assert not np.array_equal(first["x_train"], other["x_train"])


def test_no_image_of_a_glyph_is_in_two_splits(fonts: list[glyphs.Font]) -> None:
    found = glyphs.arrays(fonts, 0)
    images = [
        image.tobytes() for split in ("train", "val", "test") for image in found[f"x_{split}"]
    ]

    assert len(set(images)) == len(images)


def test_the_table_is_made_once_and_is_the_recorded_one(tmp_path: Path) -> None:
    space, spec = datasets.prepare("table", tmp_path)
    made = Path(str(spec.path)).stat().st_mtime_ns

    assert (space, datasets.prepare("table", tmp_path)) == ("vector", (space, spec))
    assert Path(str(spec.path)).stat().st_mtime_ns == made
    assert len(load(spec).open_test()) == 3_000
    assert [path.name for path in tmp_path.iterdir()] == ["table.npz"]


def test_the_digits_are_those_of_the_preset(tmp_path: Path) -> None:
    assert datasets.prepare("digits", tmp_path) == ("hybrid", datasets.DataSpec(source="digits"))


def test_other_examples_than_the_recorded_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = replace(datasets.DATA["digits"], digest="0" * 64)
    monkeypatch.setattr(datasets, "DATA", {"digits": changed})

    with pytest.raises(
        DataError, match="digits: the examples differ from those that were recorded"
    ):
        datasets.prepare("digits", tmp_path)


def test_a_missing_source_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glyphs, "FONTS", tmp_path / "fonts")
    monkeypatch.setattr(datasets, "FASHION", tmp_path / "fashion")

    with pytest.raises(DataError, match="apt install fonts-dejavu fonts-liberation"):
        datasets.prepare("glyphs", tmp_path)
    with pytest.raises(DataError, match="apt install dataset-fashion-mnist"):
        datasets.prepare("fashion5k", tmp_path)
    with pytest.raises(DataError, match="Known: table, digits"):
        datasets.prepare("flowers", tmp_path)
    assert not list(tmp_path.glob("*.part"))
