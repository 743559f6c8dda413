"""Data sets: equal specs give equal parts, and files are not believed before they are proved."""

import contextlib
import gzip
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.data import DataError, Dataset, DataSpec, SplitSpec, load
from workers.data.dataset import RawData, Split, split_data
from workers.data.idx import read_array

FASHION = Path("/usr/share/datasets/fashion-mnist")


def raw(targets: NDArray[np.int64], *, test: Split | None = None) -> RawData:
    pixels = np.arange(len(targets), dtype=np.int64)
    images = np.stack([pixels % 256, pixels // 256], axis=1).astype(np.uint8)[:, None, None]
    return RawData(
        pool=Split(inputs={"image": images}, targets=targets),
        class_names=tuple(str(label) for label in range(int(targets.max()) + 1)),
        test=test,
    )


def identities(split: Split) -> set[int]:
    pixels = split.inputs["image"][:, 0, 0].astype(int)
    return set((pixels[:, 0] + 256 * pixels[:, 1]).tolist())


def test_the_digits_fill_a_byte_and_keep_their_classes(digits: Dataset) -> None:
    images = digits.train.inputs["image"]
    assert images.dtype == np.uint8
    assert images.shape[1:] == (1, 8, 8) == digits.task.inputs["image"]
    assert (images.min(), images.max()) == (0, 255)
    assert digits.task.num_classes == 10
    assert (len(digits.train), len(digits.validation), len(digits.open_test())) == (1258, 359, 180)


@settings(max_examples=50, deadline=None)
@given(
    counts=st.lists(st.integers(8, 60), min_size=2, max_size=6),
    validation=st.floats(0.1, 0.4),
    test=st.floats(0.1, 0.4),
    seed=st.integers(0, 2**32 - 1),
)
def test_parts_share_no_example_miss_none_and_keep_every_class_in_proportion(
    counts: list[int], validation: float, test: float, seed: int
) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    spec = DataSpec(source="x", split=SplitSpec(validation=validation, test=test, seed=seed))
    dataset = split_data(raw(targets), spec)
    parts = [dataset.train, dataset.validation, dataset.open_test()]
    assert sum(len(part) for part in parts) == len(targets)
    assert set().union(*(identities(part) for part in parts)) == set(range(len(targets)))
    for label, count in enumerate(counts):
        sampled = int((dataset.open_test().targets == label).sum())
        assert abs(sampled - test * count) < 1.5


def test_equal_specs_give_equal_data_and_another_seed_another_split(digits: Dataset) -> None:
    again, other = load(DataSpec(source="digits")), load(DataSpec(split=SplitSpec(seed=1)))
    assert again.digest == digits.digest != other.digest
    assert np.array_equal(again.train.inputs["image"], digits.train.inputs["image"])


def test_another_validation_fraction_moves_nothing_out_of_the_held_out_test_set(
    digits: Dataset,
) -> None:
    other = load(DataSpec(source="digits", split=SplitSpec(validation=0.4)))
    assert np.array_equal(other.open_test().inputs["image"], digits.open_test().inputs["image"])


def test_counts_and_a_limit_are_taken_exactly() -> None:
    spec = DataSpec(source="x", split=SplitSpec(validation=50, test=30), limit=200)
    dataset = split_data(raw(np.arange(1000) % 4), spec)
    assert (len(dataset.train), len(dataset.validation)) == (120, 50)
    assert np.bincount(dataset.train.targets).tolist() == [30] * 4


def test_a_source_with_a_test_part_of_its_own_keeps_it_whole() -> None:
    own = raw(np.arange(40) % 4).pool
    dataset = split_data(raw(np.arange(100) % 4, test=own), DataSpec(source="x"))
    assert dataset.open_test() is own
    assert (len(dataset.train), len(dataset.validation)) == (80, 20)


def test_arrays_rebuild_the_data_set_on_the_same_memory_without_the_test(digits: Dataset) -> None:
    arrays = digits.to_arrays()
    again = Dataset.from_arrays(arrays)
    assert np.shares_memory(again.train.inputs["image"], digits.train.inputs["image"])
    assert (again.digest, again.task, again.class_names) == (
        digits.digest,
        digits.task,
        digits.class_names,
    )
    with pytest.raises(DataError, match="not sent to workers"):
        again.open_test()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": 100}, "takes 100 of 100"),
        ({"validation": 95}, "none is left to train"),
        ({"test": 0.001}, "takes 0 of 100"),
    ],
)
def test_impossible_splits_are_refused(changes: dict[str, float], message: str) -> None:
    spec = DataSpec(source="x", split=SplitSpec(**changes))
    with pytest.raises(DataError, match=message):
        split_data(raw(np.arange(100) % 4), spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": {"validation": 0.0}}, "greater than 0"),
        ({"split": {"validation": float("nan")}}, "finite number"),
        ({"split": {"validation": 2.5}}, "neither a share below 1 nor a whole number"),
        ({"split": {"validation": 0.5, "test": 0.5}}, "leave nothing to train on"),
        ({"limit": 0}, "greater than or equal to 1"),
    ],
)
def test_impossible_specs_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSpec(source="x", **changes)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (raw(np.zeros(20, dtype=np.int64)), "only one class"),
        (replace(raw(np.arange(20) % 2), class_names=("a",)), "labels range from 0 to 1"),
        (
            RawData(pool=Split(inputs={}, targets=np.zeros(0, np.int64)), class_names=("a", "b")),
            "no examples",
        ),
        (
            RawData(
                pool=Split(
                    inputs={"image": np.zeros((3, 1, 2, 2), np.uint8)}, targets=np.arange(4)
                ),
                class_names=("a", "b", "c", "d"),
            ),
            "3 examples of 'image' but 4 labels",
        ),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(broken: RawData, message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_data(broken, DataSpec(source="x"))


def test_an_unknown_source_is_refused_with_the_nearest_match() -> None:
    with pytest.raises(DataError, match=r"no 'digit'\. Known: .*Did you mean 'digits'\?"):
        load(DataSpec(source="digit"))


def test_the_surrogates_constant_data_has_shapes_to_screen_against() -> None:
    dataset = load(DataSpec(source="surrogate"))
    assert dataset.task.inputs == {"image": (1, 8, 8)}
    assert dataset.task.num_classes == 10


def idx(values: NDArray[np.uint8]) -> bytes:
    sizes = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes((0, 0, 8, values.ndim)) + sizes + values.tobytes()


def write_pair(folder: Path, part: str, count: int, *, zipped: bool, separator: str = "-") -> None:
    images = np.random.default_rng(0).integers(0, 256, (count, 5, 4), dtype=np.uint8)
    labels = (np.arange(count) % 3).astype(np.uint8)
    for name, values in ((f"images{separator}idx3", images), (f"labels{separator}idx1", labels)):
        content = idx(values)
        path = folder / f"{part}-{name}-ubyte{'.gz' if zipped else ''}"
        path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("separator", ["-", "."])
def test_idx_pairs_are_read_plain_and_zipped(tmp_path: Path, zipped: bool, separator: str) -> None:
    write_pair(tmp_path, "train", 60, zipped=zipped, separator=separator)
    write_pair(tmp_path, "t10k", 12, zipped=zipped, separator=separator)
    dataset = load(DataSpec(source="idx", path=str(tmp_path)))
    assert dataset.task.inputs == {"image": (1, 5, 4)}
    assert (len(dataset.train), len(dataset.validation), len(dataset.open_test())) == (48, 12, 12)


def test_without_a_test_pair_the_test_is_split_off(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 60, zipped=False)
    dataset = load(DataSpec(source="idx", path=str(tmp_path)))
    assert (len(dataset.train), len(dataset.validation), len(dataset.open_test())) == (42, 12, 6)


GOOD = idx(np.zeros((3, 2, 2), dtype=np.uint8))
ZIPPED = gzip.compress(GOOD, mtime=0)
HUGE = bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**31, 2**31)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file"),
        (b"\0\0", "not an IDX file"),
        (GOOD[:7], "ends within its header"),
        (bytes((0, 0, 13, 3)) + GOOD[4:], "not an IDX file of bytes"),
        (bytes((0, 0, 8, 1)) + GOOD[4:], "3 dimensions"),
        (GOOD[:-1], "fewer bytes than the 12|claims 12 bytes"),
        (GOOD + b"\0", "more bytes than the 12"),
        (HUGE, "more than it can contain"),
        (HUGE + bytes(1000), "more than it can contain"),
        (gzip.compress(HUGE + bytes(10**6), mtime=0), "more than it can contain"),
        (bytes((0, 0, 8, 3)) + struct.pack(">3I", 0, 2, 2), "contains no elements"),
        (ZIPPED[:-3], "not a complete gzip file"),
        (ZIPPED[:12] + b"\xff\xff" + ZIPPED[14:], "gzip|IDX|bytes"),
        (gzip.compress(GOOD[:-1], mtime=0), "fewer bytes"),
    ],
)
def test_malformed_idx_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_array(path, dimensions=3)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64), st.booleans())
def test_no_file_makes_the_reader_fail_otherwise(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, zipped: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    with contextlib.suppress(DataError):
        assert read_array(path, dimensions=1).ndim == 1


def test_folders_that_hold_no_pair_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs the folder"):
        load(DataSpec(source="idx"))
    with pytest.raises(DataError, match="is not a folder"):
        load(DataSpec(source="idx", path=str(tmp_path / "gone")))
    with pytest.raises(DataError, match="no train-images-idx3-ubyte"):
        load(DataSpec(source="idx", path=str(tmp_path)))
    write_pair(tmp_path, "train", 9, zipped=False)
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no train-labels file"):
        load(DataSpec(source="idx", path=str(tmp_path)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(8, dtype=np.uint8)))
    with pytest.raises(DataError, match="has 9 images"):
        load(DataSpec(source="idx", path=str(tmp_path)))


def test_test_images_of_another_size_are_refused(tmp_path: Path) -> None:
    write_pair(tmp_path, "train", 60, zipped=False)
    write_pair(tmp_path, "t10k", 12, zipped=False)
    larger = np.zeros((12, 6, 6), dtype=np.uint8)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(larger))
    with pytest.raises(DataError, match="differ in size"):
        load(DataSpec(source="idx", path=str(tmp_path)))


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone cannot be read: No such file"):
        read_array(tmp_path / "gone", dimensions=1)


def test_a_path_for_bundled_data_is_refused() -> None:
    with pytest.raises(DataError, match="bundled"):
        load(DataSpec(source="digits", path="here"))


@pytest.mark.skipif(not FASHION.is_dir(), reason="needs Debian's dataset-fashion-mnist")
def test_fashion_mnist_gives_ten_thousand_to_train_on() -> None:
    dataset = load(
        DataSpec(source="idx", path=str(FASHION), split=SplitSpec(validation=5_000), limit=15_000)
    )
    assert (len(dataset.train), len(dataset.validation), len(dataset.open_test())) == (
        10_000,
        5_000,
        10_000,
    )
    assert np.bincount(dataset.train.targets).tolist() == [1_000] * 10
