"""Checkpoints are whole or not there, and no unproved byte is loaded."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from workers import checkpoint, manifest
from workers.checkpoint import Checkpoint, CheckpointError
from workers.measurement import CheckpointRef
from workers.storage import LocalFolder

FILES = ("tensors.safetensors", "state.json", "manifest.json")


def example(epoch: int = 1) -> Checkpoint:
    tensors = {"w": torch.arange(12.0).reshape(3, 4) * epoch, "step": torch.tensor(epoch)}
    return Checkpoint(epoch=epoch, tensors=tensors, state={"note": "ä", "epoch": epoch})


def test_what_is_loaded_equals_what_was_saved(tmp_path: Path) -> None:
    reference = checkpoint.save(LocalFolder(tmp_path / "deep" / "down"), example(7))
    loaded = checkpoint.load(reference)
    assert loaded.epoch == 7
    assert loaded.state == {"note": "ä", "epoch": 7}
    assert all(
        torch.equal(loaded.tensors[name], value) for name, value in example(7).tensors.items()
    )
    assert reference.bytes == sum(f.stat().st_size for f in Path(reference.path).iterdir())


def test_folders_are_their_owners_alone(tmp_path: Path) -> None:
    reference = checkpoint.save(LocalFolder(tmp_path / "new"), example())
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0
    assert Path(reference.path).stat().st_mode & 0o077 == 0


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def lengthened(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def bit_flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def missing(path: Path) -> None:
    path.unlink()


def linked(path: Path) -> None:
    elsewhere = path.parent.parent / f"elsewhere-{path.name}"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def piped(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = (truncated, lengthened, bit_flipped, emptied, missing, linked, piped, a_folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_file_is_refused_and_the_checkpoint_before_is_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    older = checkpoint.save(LocalFolder(tmp_path), example(1))
    newer = checkpoint.save(LocalFolder(tmp_path), example(2))
    damage(Path(newer.path) / name)
    with pytest.raises(CheckpointError):
        checkpoint.load(newer)
    found, reference, rejected = checkpoint.load_first_valid([newer, older])
    assert found is not None
    assert found.epoch == 1
    assert reference == older
    assert len(rejected) == 1
    assert newer.path in rejected[0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_bit_anywhere_is_believed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    reference = checkpoint.save(LocalFolder(tmp_path_factory.mktemp("flipped")), example())
    path = Path(reference.path) / data.draw(st.sampled_from(FILES))
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, 8 * len(content) - 1))
    content[position // 8] ^= 1 << position % 8
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        checkpoint.load(reference)


def test_checkpoints_swapped_between_trials_are_refused(tmp_path: Path) -> None:
    mine, other = (
        checkpoint.save(LocalFolder(tmp_path / "a"), example(1)),
        checkpoint.save(LocalFolder(tmp_path / "b"), example(2)),
    )
    with pytest.raises(CheckpointError, match="not the one that was recorded"):
        checkpoint.load(replace(mine, path=other.path))
    shutil.copy(Path(other.path) / "manifest.json", Path(mine.path) / "manifest.json")
    with pytest.raises(CheckpointError, match="not the one that was recorded"):
        checkpoint.load(mine)


def test_a_newer_schema_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "SCHEMA", 2)
    newer = checkpoint.save(LocalFolder(tmp_path), example())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="schema 2, this version reads 1"):
        checkpoint.load(newer)


def test_tensors_that_were_written_wrong_are_refused_though_their_digest_holds(
    tmp_path: Path,
) -> None:
    reference = checkpoint.save(LocalFolder(tmp_path), example())
    folder = Path(reference.path)
    garbage = b"\xff" * 64
    (folder / "tensors.safetensors").write_bytes(garbage)
    recorded = json.loads((folder / "manifest.json").read_text())
    recorded["files"]["tensors.safetensors"] = {
        "bytes": len(garbage),
        "sha256": hashlib.sha256(garbage).hexdigest(),
    }
    content = json.dumps(recorded).encode()
    (folder / "manifest.json").write_bytes(content)
    forged = replace(reference, manifest_sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(forged)


def test_none_whole_gives_none_and_all_the_reasons(tmp_path: Path) -> None:
    gone = [
        CheckpointRef(path=str(tmp_path / name), manifest_sha256="0" * 64, bytes=1) for name in "ab"
    ]
    found, reference, rejected = checkpoint.load_first_valid(gone)
    assert found is None
    assert reference is None
    assert len(rejected) == 2


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_a_failing_disk_leaves_nothing_under_a_checkpoints_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    older = checkpoint.save(LocalFolder(tmp_path), example(1))

    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if call == "fsync" else (Path, "rename")), fails)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(LocalFolder(tmp_path), example(2))
    monkeypatch.undo()
    assert [str(path) for path in tmp_path.iterdir()] == [older.path]


def test_the_name_is_given_only_after_every_byte_was_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def note_sync(descriptor: int) -> None:
        order.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    def note_rename(self: Path, target: Path) -> Path:
        order.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    reference = checkpoint.save(LocalFolder(tmp_path), example())
    unfinished = f".{Path(reference.path).name}.tmp"
    assert order == [*FILES, unfinished, "rename", tmp_path.name]


def test_an_epoch_saved_twice_gives_two_folders(tmp_path: Path) -> None:
    first, second = (
        checkpoint.save(LocalFolder(tmp_path), example(1)),
        checkpoint.save(LocalFolder(tmp_path), example(1)),
    )
    assert first.path != second.path
    assert checkpoint.load(first).epoch == checkpoint.load(second).epoch == 1


def test_removing_twice_is_fine(tmp_path: Path) -> None:
    reference = checkpoint.save(LocalFolder(tmp_path), example())
    checkpoint.remove(reference, LocalFolder(tmp_path))
    checkpoint.remove(reference, LocalFolder(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_manifest_says_what_is_in_the_folder(tmp_path: Path) -> None:
    reference = checkpoint.save(LocalFolder(tmp_path), example(3))
    recorded = json.loads((Path(reference.path) / "manifest.json").read_text())
    assert recorded["schema"] == 1
    assert recorded["epoch"] == 3
    assert set(recorded["files"]) == {"tensors.safetensors", "state.json"}
