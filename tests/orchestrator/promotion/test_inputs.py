"""Prediction finds the files that training would, and says what it leaves aside."""

from pathlib import Path

import pytest
from PIL import Image

from orchestrator.promotion.inputs import expand
from workers.data import DataError


def test_a_folder_is_walked_as_in_training(tmp_path: Path) -> None:
    root = tmp_path / "new"
    for name in ("b/1.jfif", "a.png", "__MACOSX/._a.png", ".hidden/a.png", "c.webp"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(root / name, "JPEG")
    (root / "out.png").symlink_to(tmp_path / "secret.png")
    files, (note,) = expand([str(root)])
    assert [str(file.relative_to(root)) for file in files] == ["a.png", "b/1.jfif"]
    assert "4 files left aside: '.hidden', '__MACOSX', 'c.webp', 'out.png'" in note
    assert "links that lead out of the folder are not followed" in note


def test_a_folder_of_links_alone_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "a.png").symlink_to(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"links that lead out .* or make hard links"):
        expand([str(tmp_path / "new")])
