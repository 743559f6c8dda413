"""Disks and stores keep the contract of storage; a broken one does not."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.store import serving

from orchestrator.testing import StorageContract
from workers.storage import LocalFolder, Storage, storage_at


class TestALocalFolder(StorageContract):
    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        return LocalFolder(tmp_path / "checkpoints")


@pytest.mark.parametrize("kind", ["memory", "webhdfs", "local"])
class TestARemoteFolder(StorageContract):
    @pytest.fixture
    def storage(self, kind: str, tmp_path: Path) -> Iterator[Storage]:
        urls = {"memory": "memory://contract", "local": f"local://{tmp_path}"}
        if kind == "webhdfs":
            with serving() as store:
                yield storage_at(store.url) / "study"
            return
        root = storage_at(urls[kind])
        yield root / "study"
        (root / "study").remove(root)


class Halved(LocalFolder):
    """A folder that loses the second half of what is written."""

    __slots__ = ()

    def write(self, name: str, content: bytes) -> None:
        LocalFolder.write(self, name, content[: len(content) // 2])


def test_the_contract_catches_a_storage_that_cuts_files_off(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        StorageContract().test_a_file_reads_back_as_written_and_is_replaced_whole(
            Halved(tmp_path / "checkpoints")
        )
