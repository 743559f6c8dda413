"""Checkpoints in a store without renames: the same promises, by a manifest that comes last."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.store import Store, serving

from workers import checkpoint, storage
from workers.checkpoint import Checkpoint, CheckpointError
from workers.storage import LocalFolder, RemoteFolder, StorageUnreachableError, storage_at

FILES = ("tensors.safetensors", "state.json", "manifest.json")


def example(epoch: int = 1) -> Checkpoint:
    return Checkpoint(epoch=epoch, tensors={"w": torch.arange(6.0) * epoch}, state={"note": "ä"})


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with serving() as made:
        yield made


@pytest.fixture(params=["memory", "webhdfs", "local"])
def folder(request: pytest.FixtureRequest, store: Store, tmp_path: Path) -> Iterator[RemoteFolder]:
    """A trial's folder in an empty store; `local` is one that makes no folders by itself."""
    urls = {"memory": "memory://checkpoints", "webhdfs": store.url, "local": f"local://{tmp_path}"}
    made = storage_at(urls[request.param])
    assert isinstance(made, RemoteFolder)
    yield made / "study" / "trial"
    (made / "study").remove(made)


def test_what_is_loaded_equals_what_was_saved(folder: RemoteFolder) -> None:
    reference = checkpoint.save(folder, example(7))
    assert reference.path.startswith(f"{folder}/epoch-00007-")
    loaded = checkpoint.load(reference, folder)
    assert (loaded.epoch, dict(loaded.state)) == (7, {"note": "ä"})
    assert torch.equal(loaded.tensors["w"], example(7).tensors["w"])
    assert reference.bytes == sum(folder.sizes().values())
    assert [found.name for found in folder.entries()] == [Path(reference.path).name]


def flipped(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "flipped": flipped,
    "cut off": lambda content: content[:-1],
    "longer": lambda content: content + b"\0",
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_and_the_checkpoint_before_is_used(
    folder: RemoteFolder, name: str, damage: str
) -> None:
    older, newer = checkpoint.save(folder, example(1)), checkpoint.save(folder, example(2))
    damaged = RemoteFolder(newer.path)
    damaged.write(name, DAMAGES[damage](damaged.read(name, 1 << 20)))
    found, reference, rejected = checkpoint.load_first_valid([newer, older], folder)
    assert (found and found.epoch, reference) == (1, older)
    assert newer.path in rejected[0]


def test_a_removed_checkpoint_is_refused_and_may_be_removed_again(folder: RemoteFolder) -> None:
    reference = checkpoint.save(folder, example())
    checkpoint.remove(reference, folder)
    checkpoint.remove(reference, folder)
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint.load(reference, folder)
    assert folder.entries() == []


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_what_a_crash_cuts_off_has_no_manifest_and_what_an_error_cuts_off_leaves_nothing(
    folder: RemoteFolder, writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = checkpoint.save(folder, example(1))
    passed: list[str] = []

    def fault(point: str) -> None:
        passed.append(point)
        if len(passed) > writes:
            # What a kill here would leave: everything that was put so far, and no manifest.
            [unfinished] = [f for f in folder.entries() if str(f) != older.path] or [
                folder / "none"
            ]
            assert not unfinished.sizes() or not (unfinished / "manifest.json").exists()
            assert len(unfinished.sizes()) == writes
            raise OSError("the store is full")

    monkeypatch.setattr(storage, "fault", fault)
    with pytest.raises(OSError, match="the store is full"):
        checkpoint.save(folder, example(2))
    assert [str(found) for found in folder.entries()] == [older.path]


def test_a_store_is_opened_only_where_the_environment_names_it(folder: RemoteFolder) -> None:
    reference = checkpoint.save(folder, example())
    for places in (
        [],
        [folder / ".."],
        [LocalFolder(Path("/tmp")), RemoteFolder("memory://elsewhere")],
    ):
        with pytest.raises(CheckpointError, match="has ARCHSCOUT_CHECKPOINTS changed"):
            checkpoint.load(reference, *places)
    elsewhere = replace(reference, path=f"memory://elsewhere/{Path(reference.path).name}")
    assert checkpoint.load(elsewhere, folder).epoch == example().epoch  # from its own folder
    assert checkpoint.load(reference, folder / "..", folder).epoch == example().epoch
    for nameless in ("memory://elsewhere/..", "memory://elsewhere/", "memory://elsewhere/."):
        with pytest.raises(CheckpointError, match="names no checkpoint"):
            checkpoint.load(replace(reference, path=nameless), folder)


def test_a_store_that_fails_is_an_error_of_the_world(store: Store) -> None:
    folder = RemoteFolder(store.url)
    reference = checkpoint.save(folder, example())
    store.fails = True
    try:
        with pytest.raises(StorageUnreachableError, match="webhdfs"):
            checkpoint.save(folder, example())
        with pytest.raises(CheckpointError, match="cannot be read"):
            checkpoint.load(reference, folder)
        checkpoint.remove(reference, folder)  # costs space, and no trial
    finally:
        store.fails = False
    (folder / Path(reference.path).name).remove(folder)


def test_a_file_url_is_a_folder_like_any_other(tmp_path: Path) -> None:
    assert storage_at(f"file://{tmp_path}") == LocalFolder(tmp_path)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://key:secret@bucket/x", "contains a login"),
        ("simplecache::memory://x", "a chain of stores"),
    ],
)
def test_urls_that_would_leak_or_surprise_are_refused(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        storage_at(url)
