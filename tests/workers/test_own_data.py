"""Images in folders and arrays in files load as what they are, and nothing leaves the folder."""

import contextlib
import io
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import pictures

from workers.data import DataError, Dataset, DataSpec, Preprocessing, Split, arrays, load
from workers.data.array_files import find
from workers.data.idx import read_array
from workers.data.images import BrokenImageError, header, read
from workers.data.inspection import inspect

FASHION = Path("/usr/share/datasets/fashion-mnist")


def contents(*splits: Split) -> Counter[tuple[bytes, int]]:
    return Counter(
        (pixels.tobytes(), int(target))
        for split in splits
        for pixels, target in zip(split.inputs["image"], split.targets, strict=True)
    )


def everything(dataset: Dataset) -> Counter[tuple[bytes, int]]:
    return contents(dataset.train, dataset.validation, dataset.open_test())


def folder(path: Path, **wanted: object) -> Dataset:
    return load(DataSpec(source="folder", path=str(path), **wanted))  # type: ignore[arg-type]


def npz(path: Path) -> Dataset:
    return load(DataSpec(source="npz", path=str(path)))


def test_digits_written_as_png_load_as_the_digits_themselves(tmp_path: Path) -> None:
    images, targets = pictures.digits()
    dataset = folder(pictures.write_digits(tmp_path, range(len(images))))
    assert everything(dataset) == contents(Split(inputs={"image": images}, targets=targets))
    assert dataset.class_names == tuple("0123456789")
    assert dataset.task.inputs["image"] == (1, 8, 8)


@pytest.mark.skipif(not FASHION.is_dir(), reason="Debian: apt install dataset-fashion-mnist")
def test_clothes_written_as_png_load_as_the_clothes_themselves(tmp_path: Path) -> None:
    images = read_array(FASHION / "t10k-images-idx3-ubyte.gz", dimensions=3)[:500]
    targets = read_array(FASHION / "t10k-labels-idx1-ubyte.gz", dimensions=1)[:500]
    for index, (image, target) in enumerate(zip(images, targets, strict=True)):
        (tmp_path / f"c{target}").mkdir(exist_ok=True)
        Image.fromarray(image).convert("RGB").save(tmp_path / f"c{target}" / f"{index}.png")
    dataset = folder(tmp_path)
    # Stored in color, yet gray: one channel is enough.
    assert dataset.task.inputs["image"] == (1, 28, 28)
    assert everything(dataset) == contents(
        Split(inputs={"image": images}, targets=targets.astype(np.int64))
    )


def test_jpeg_images_load_close_to_what_they_show(tmp_path: Path) -> None:
    images, _ = pictures.digits()
    dataset = folder(pictures.write_digits(tmp_path, range(100), suffix="jpg"))
    assert abs(float(dataset.train.inputs["image"].mean()) - float(images[:100].mean())) < 8


def test_unequal_colour_images_are_resized_to_the_median_and_the_size_is_recorded(
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for index in range(10):
            size = (100 + index, 200 + index, 3)
            pixels = generator.integers(0, 256, size, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{index}.jpg")
    dataset = folder(tmp_path)
    assert dataset.task.inputs["image"] == (3, 33, 64)
    assert dataset.preprocessing is not None
    assert (dataset.preprocessing.height, dataset.preprocessing.width) == (33, 64)
    assert dataset.class_names == ("cat", "dog")
    again = Dataset.from_arrays(dataset.to_arrays())
    assert (again.preprocessing, again.class_names) == (dataset.preprocessing, dataset.class_names)


def test_the_parts_of_a_split_are_used_as_they_are_given(tmp_path: Path) -> None:
    images, targets = pictures.digits()
    parts = {"train": range(200), "valid": range(200, 260), "Test": range(260, 300)}
    for part, chosen in parts.items():
        pictures.write_digits(tmp_path / part, chosen)
    dataset = folder(tmp_path)
    splits = (dataset.train, dataset.validation, dataset.open_test())
    for split, chosen in zip(splits, parts.values(), strict=True):
        inputs = {"image": images[list(chosen)]}
        assert contents(split) == contents(Split(inputs=inputs, targets=targets[list(chosen)]))


def test_a_limit_takes_what_the_split_of_all_would_have_taken(tmp_path: Path) -> None:
    pictures.write_digits(tmp_path)
    one, other = folder(tmp_path, limit=60), folder(tmp_path, limit=60)
    assert len(one.train) + len(one.validation) + len(one.open_test()) == 60
    assert one.digest == other.digest
    assert everything(one) <= everything(folder(tmp_path))


def test_hidden_files_notes_and_links_out_are_skipped_and_counted(tmp_path: Path) -> None:
    root = pictures.write_digits(tmp_path / "data", range(60))
    outside = tmp_path / "secret"
    outside.mkdir()
    Image.new("L", (8, 8)).save(outside / "secret.png")
    (root / "0" / "linked.png").symlink_to(outside / "secret.png")
    (root / "0" / "inside.png").symlink_to(next((root / "1").iterdir()))
    (root / "z").symlink_to(outside)
    (root / "0" / ".hidden.png").write_bytes(b"")
    (root / "0" / "notes.txt").write_text("mine")
    (root / ".cache").mkdir()
    found = inspect(root)
    assert found.raw.skipped_files == (
        ".cache",
        "0/.hidden.png",
        "0/linked.png",
        "0/notes.txt",
        "z",
    )
    assert found.examples == {"train": 61}


def test_duplicates_are_found_within_parts_between_them_and_across_classes(tmp_path: Path) -> None:
    images, targets = pictures.digits()
    x_train = np.concatenate([images[:100], images[:3]])
    y_train = np.concatenate([targets[:100], (targets[:3] + 1) % 10])
    x_test = np.concatenate([images[100:150], images[50:55]])
    y_test = np.concatenate([targets[100:150], targets[50:55]])
    path = tmp_path / "own.npz"
    np.savez(path, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    duplicates = inspect(path).duplicates
    assert duplicates.within == {"train": 3, "test": 0}
    assert duplicates.between == {("train", "test"): 5}
    assert duplicates.contradicting == 3


@pytest.mark.parametrize(
    ("x", "y"), [("x", "y"), ("X", "y"), ("images", "labels"), ("train_images", "train_labels")]
)
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32"])
def test_arrays_load_as_they_are_under_any_of_their_usual_names(
    tmp_path: Path, x: str, y: str, dtype: str
) -> None:
    images, targets = pictures.digits()
    np.savez_compressed(tmp_path / "own.npz", **{x: images.astype(dtype), y: targets[:, None]})
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / f"{x}.npy", np.asfortranarray(images.astype(dtype)))
    np.save(tmp_path / "folder" / f"{y}.npy", targets.astype(dtype))
    expected = contents(Split(inputs={"image": images}, targets=targets))
    for path in (tmp_path / "own.npz", tmp_path / "folder"):
        assert everything(npz(path)) == expected


def test_labels_may_be_text_or_have_gaps_or_be_named(tmp_path: Path) -> None:
    images, targets = pictures.digits()
    images, targets = images[targets < 3], targets[targets < 3]
    words = np.array(["ant", "bee", "cow", "dog", "elk"])
    given = {"text": words[targets], "gaps": targets * 2}
    for name, labels in given.items():
        np.savez(tmp_path / f"{name}.npz", x=images, y=labels)
    np.savez(tmp_path / "named.npz", x=images, y=targets * 2, class_names=words)
    names = {path.stem: npz(path).class_names for path in tmp_path.iterdir()}
    assert names == {
        "text": ("ant", "bee", "cow"),
        "gaps": ("0", "2", "4"),
        "named": ("ant", "cow", "elk"),
    }


def test_colour_arrays_scale_by_the_training_part_alone(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = generator.uniform(-2, 2, (60, 9, 8, 3)).astype(np.float32)
    x[0, 0, 0, 0], x[0, 0, 0, 1] = -2.0, 2.0
    test = generator.uniform(-9, 9, (20, 9, 8, 3))
    labels = np.arange(60) % 2
    path = tmp_path / "own.npz"
    np.savez(path, x_train=x, y_train=labels, x_test=test, y_test=labels[:20])
    dataset = npz(path)
    assert dataset.task.inputs["image"] == (3, 9, 8)
    assert dataset.preprocessing is not None
    assert (dataset.preprocessing.low, dataset.preprocessing.high) == (-2.0, 2.0)


def test_more_than_fits_into_memory_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures.write_digits(tmp_path / "data", range(100))
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((4000, 64, 64)), y=np.arange(4000) % 2)
    assert (tmp_path / "bomb.npz").stat().st_size < 200_000
    monkeypatch.setattr("workers.data.folder.max_array_bytes", lambda: 4000)
    monkeypatch.setattr("workers.data.npy.max_array_bytes", lambda: 50_000)
    with pytest.raises(DataError, match=r"available for 0.0; set data.limit to 62 or less"):
        folder(tmp_path / "data")
    with pytest.raises(DataError, match=r"takes 0.1 GiB, and memory is available for"):
        npz(tmp_path / "bomb.npz")


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["png", "jpg", "npz"]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=9),
    cut=st.none() | st.integers(0, 400),
)
def test_damaged_files_are_read_or_refused_and_never_fail_otherwise(
    kind: str, changes: list[tuple[int, int]], cut: int | None
) -> None:
    images, targets = pictures.digits()
    whole = io.BytesIO()
    if kind == "npz":
        np.savez(whole, x=images[:30], y=targets[:30])
    else:
        Image.fromarray(images[0]).save(whole, "JPEG" if kind == "jpg" else "PNG")
    damaged = bytearray(whole.getvalue())
    for place, value in changes:
        damaged[place % len(damaged)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"damaged.{kind}"
        path.write_bytes(damaged[:cut])
        with contextlib.suppress(DataError, BrokenImageError):
            if kind == "npz":
                arrays.load(find(path))
            else:
                header(path)
                read(path, Preprocessing(channels=1, height=8, width=8))
