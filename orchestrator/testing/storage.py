"""Contract of storage: files appear whole, folders list what was written, removal stays below."""

import pytest

from workers.paths import PathOutsideError
from workers.storage import Storage


class StorageContract:
    """Tests of a storage; a subclass gives the fixture `storage`, an empty folder."""

    @pytest.fixture
    def storage(self) -> Storage:
        """The empty folder under test."""
        raise NotImplementedError("give a fixture `storage`")

    def test_a_file_reads_back_as_written_and_is_replaced_whole(self, storage: Storage) -> None:
        storage.write("a", b"first, and longer")
        storage.write("a", b"second")
        assert storage.read("a", 100) == b"second"
        assert [entry.name for entry in storage.entries()] == ["a"]

    def test_reading_stops_one_byte_after_the_limit(self, storage: Storage) -> None:
        storage.write("a", bytes(10))
        assert len(storage.read("a", 4)) == 5

    def test_a_missing_file_is_not_found(self, storage: Storage) -> None:
        storage.write("a", b"")
        with pytest.raises(FileNotFoundError):
            storage.read("b", 10)

    def test_a_missing_folder_is_empty(self, storage: Storage) -> None:
        missing = storage / "missing"
        assert not missing.exists()
        assert not missing.is_dir()
        assert missing.entries() == []

    def test_a_folder_lists_its_entries_sorted_and_its_sizes(self, storage: Storage) -> None:
        storage.write_folder("trial", {"b.json": b"12", "a.bin": b"1"})
        assert (storage / "trial").is_dir()
        assert [entry.name for entry in (storage / "trial").entries()] == ["a.bin", "b.json"]
        assert storage.sizes() == {"trial/a.bin": 1, "trial/b.json": 2}

    def test_removing_deletes_what_is_below_and_may_be_repeated(self, storage: Storage) -> None:
        storage.write_folder("trial", {"a": b"1"})
        for _ in range(2):
            (storage / "trial").remove(storage)
        assert storage.entries() == []

    @pytest.mark.parametrize("name", ["..", ".", "a/../.."])
    def test_nothing_outside_is_removed(self, storage: Storage, name: str) -> None:
        storage.write("a", b"1")
        with pytest.raises(PathOutsideError):
            (storage / name).remove(storage)
        with pytest.raises(PathOutsideError):
            storage.remove(storage)
        assert storage.read("a", 10) == b"1"

    def test_writable_storage_has_no_access_error_and_keeps_no_probe(
        self, storage: Storage
    ) -> None:
        storage.write("a", b"1")
        assert storage.access_error() is None
        assert [entry.name for entry in storage.entries()] == ["a"]
