"""Manifests: what is copied are the bytes that were hashed, and nothing else."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from workers import manifest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (folder / "weights").write_bytes(b"12345678")
    (folder / "inner" / "code.py").write_text("x = 1\n")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_a_folder_is_copied_whole_and_files_added_later_are_not(model: Path, target: Path) -> None:
    digest = manifest.write(model)
    (model / "extra.py").write_text("harm")
    (model / "inner" / "__pycache__").mkdir()
    digests = manifest.verified_copy(model, target, digest)
    assert set(digests) == {"weights", "inner/code.py"}
    copied = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert copied == {"weights", "inner/code.py", "manifest.json"}
    assert (target / "weights").read_bytes() == b"12345678"


def flip(model: Path) -> None:
    (model / "weights").write_bytes(b"12345679")


def grow(model: Path) -> None:
    (model / "weights").write_bytes(b"123456789")


def cut(model: Path) -> None:
    (model / "weights").write_bytes(b"1234")


def remove(model: Path) -> None:
    (model / "weights").unlink()


def link(model: Path) -> None:
    (model / "weights").rename(model / "kept")
    (model / "weights").symlink_to("kept")


def pipe(model: Path) -> None:
    (model / "weights").unlink()
    os.mkfifo(model / "weights")


def edit_the_manifest(model: Path) -> None:
    text = (model / manifest.NAME).read_text()
    (model / manifest.NAME).write_text(text.replace("weights", "weight_"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (flip, "weights has changed"),
        (grow, "weights is larger"),
        (cut, "weights has changed"),
        (remove, "weights cannot be read: No such file"),
        (link, "weights cannot be read"),
        (pipe, "weights cannot be read: not a regular file"),
        (edit_the_manifest, r"manifest\.json is not the one that was recorded"),
    ],
)
def test_a_changed_file_is_refused(
    model: Path, target: Path, change: Callable[[Path], None], reason: str
) -> None:
    digest = manifest.write(model)
    change(model)
    with pytest.raises(ValueError, match=reason):
        manifest.verified_copy(model, target, digest)


@pytest.mark.parametrize("name", ["../out", "/etc/passwd", "inner/../../out"])
def test_a_manifest_does_not_lead_out_of_its_folder(
    model: Path, target: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "out").write_bytes(b"12345678")
    manifest.write(model)
    text = (model / manifest.NAME).read_text().replace('"weights"', f'"{name}"')
    (model / manifest.NAME).write_text(text)
    with pytest.raises(ValueError, match="leads out of the folder"):
        manifest.verified_copy(model, target, manifest.digest(text.encode()))
