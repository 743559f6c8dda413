"""Prediction finds the files that training would, and says what it leaves aside."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.promotion.inputs import batches, expand
from workers.data import DataError, Preprocessing
from workers.data.preprocessing import prepare_arrays


def test_a_folder_is_walked_as_in_training(tmp_path: Path) -> None:
    root = tmp_path / "new"
    for name in ("b/1.jfif", "a.png", "__MACOSX/._a.png", ".hidden/a.png", "c.webp"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(root / name, "JPEG")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    files, (note,) = expand([str(root)])
    assert [str(file.relative_to(root)) for file in files] == ["a.png", "b/1.jfif"]
    assert "4 files ignored: '.hidden', '__MACOSX', 'c.webp', 'out.png'" in note
    assert "links that lead out of the folder are not followed" in note


def test_a_folder_of_links_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"links that lead out .* or make hard links"):
        expand([str(tmp_path / "new")])


class Shim:
    """What a model of gray images of 8 x 8 takes."""

    def __init__(self, dtype: str, low: float = 0.0, high: float = 255.0) -> None:
        self.preprocessing = Preprocessing(
            channels=1, height=8, width=8, dtype=dtype, low=low, high=high
        )
        self.facts = {"preprocessing": self.preprocessing.to_dict()}

    def prepare_arrays(self, values: np.ndarray) -> np.ndarray:
        return prepare_arrays(values, self.preprocessing)


def test_an_invalid_array_gives_no_rows_and_an_error_with_its_example(tmp_path: Path) -> None:
    values = np.ones((1100, 8, 8))
    values[0, 0, 0], values[1050, 3, 3] = 9, np.nan
    np.savez(tmp_path / "bad.npz", x=values)
    np.savez(tmp_path / "good.npz", x=values[:5])
    failed: list[str] = []
    files = [tmp_path / "bad.npz", tmp_path / "good.npz"]
    (batch,) = batches(files, Shim("float32"), failed)
    assert [name for name, _ in batch.names] == [str(tmp_path / "good.npz")] * 5
    (message,) = failed
    assert "bad.npz cannot be used: NaN or infinity in example 1050" in message


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.arange(128, dtype=np.uint8).reshape(2, 8, 8), "scale them alike"),
        (np.zeros((0, 8, 8)), "no examples"),
        (np.ones((2, 8, 9)), "reads 1 channels of 8 x 8"),
    ],
)
def test_arrays_that_do_not_fit_a_model_of_floats_are_refused(
    values: np.ndarray, reason: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", values)
    assert not list(batches([tmp_path / "x.npy"], Shim("float32", -3, 4), failed := []))
    assert reason in failed[0]


def test_a_black_image_of_floats_is_taken_for_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "black.npy", np.zeros((1, 8, 8)))
    (batch,) = batches([tmp_path / "black.npy"], Shim("uint8"), failed := [])
    assert not batch.examples.any()
    assert not failed
