"""What distinguishes examples is kept from file to batch, and every class is in every part."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import pictures

from orchestrator.promotion.inputs import expand
from workers.data import DataError, Dataset, DataSpec, SplitSpec, load
from workers.data.dataset import RawData, Split, split_data
from workers.data.folder import find
from workers.data.limits import available_bytes
from workers.training.augmentation import AUGMENTATIONS
from workers.training.batches import DeviceSplit, Normalisation, on_device

RANDOM = np.random.default_rng(0)


def npz(path: Path, x: np.ndarray, y: np.ndarray) -> Dataset:
    np.savez(path / "d.npz", x=x, y=y)
    return load(DataSpec(source="npz", path=str(path / "d.npz")))


@pytest.mark.parametrize("harm", ["hot pixel", "second channel", "small values"])
def test_an_outlier_or_a_wide_channel_takes_nothing_from_the_others(
    harm: str, tmp_path: Path
) -> None:
    y = np.arange(60) % 2
    x = RANDOM.normal(2.0 * y[:, None, None, None], 1.0, (60, 1, 8, 8))
    if harm == "hot pixel":
        x[0, 0, 0, 0] = 1e4
    elif harm == "second channel":
        x = np.concatenate([x, RANDOM.uniform(0, 1e4, x.shape)], axis=1)
    else:
        x = np.abs(x) * 1e-3
    images = npz(tmp_path, x.astype("f4"), y).train.inputs["image"]
    assert len(np.unique(images[:, 0])) > 2000


def test_numbers_that_float32_cannot_distinguish_are_noted(tmp_path: Path) -> None:
    x = 1.7e9 + RANDOM.integers(0, 60, (60, 3)).astype("f8")
    x[:, 2] -= 1.7e9
    (note,) = npz(tmp_path, x, np.arange(60) % 2).notes
    assert "too fine for float32" in note
    assert "(2 of 3 numbers)" in note


def test_values_that_set_the_scale_of_all_others_are_noted(tmp_path: Path) -> None:
    x = RANDOM.normal(size=(60, 3, 8, 8)).astype("f4")
    x[7, 1, 2, 2] = 1e30
    x[::5, 2, 0, 0] = -9999
    notes = npz(tmp_path, x, np.arange(60) % 2).notes
    assert [note.partition(" of ")[0] for note in notes] == ["channel 1", "channel 2"]
    assert all("outliers set its scale" in note for note in notes)


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (RANDOM.normal(size=(60, 8, 8)).astype("f4") * np.float32(1e-40), "in a smaller unit"),
        (RANDOM.normal(size=(60, 3)).astype("f4") * np.float32(1e-40), "in a smaller unit"),
        (RANDOM.normal(size=(60, 8, 8)) * 1e-50, "too fine for float32"),
        (2**40 + RANDOM.integers(0, 99, (60, 8, 8)), "subtract a constant"),
    ],
)
def test_values_of_which_float32_keeps_nothing_are_refused_with_the_reason(
    x: np.ndarray, reason: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=reason):
        npz(tmp_path, x, np.arange(60) % 2)


@settings(max_examples=30, deadline=None)
@given(exponent=st.floats(-44, 38))
def test_normalized_values_are_finite_at_any_scale(exponent: float) -> None:
    values = np.float32(10**exponent) * np.array([[-1], [0], [1], [1]], dtype=np.float32)
    split = Split(inputs={"vector": values}, targets=np.zeros(4, dtype=np.int64))
    assert Normalisation.of(split).apply("vector", torch.from_numpy(values)).isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(3, 300), min_size=2, max_size=8).filter(
        lambda each: sum(each) > 60
    ),
    limit=st.none() | st.integers(30, 400),
    validation=st.sampled_from([0.05, 0.2, 0.4]),
    seed=st.integers(0, 99),
)
def test_every_class_is_in_every_split(
    counts: list[int], limit: int | None, validation: float, seed: int
) -> None:
    targets = np.repeat(np.arange(len(counts)), counts)
    pool = Split(inputs={"vector": np.zeros((len(targets), 2), "f4")}, targets=targets)
    raw = RawData(pool=pool, class_names=tuple(map(str, range(len(counts)))))
    spec = DataSpec(source="x", split=SplitSpec(validation=validation, seed=seed), limit=limit)
    dataset = split_data(raw, spec)
    parts = (dataset.train, dataset.validation, dataset.open_test())
    assert sum(map(len, parts)) == min(limit or len(targets), len(targets))
    for part in parts:
        assert set(part.targets) == set(range(len(counts)))


def test_a_split_of_the_source_is_shuffled_and_the_digest_stays(tmp_path: Path) -> None:
    for part, chosen in {"train": range(60), "val": range(60, 160)}.items():
        pictures.write_digits(tmp_path / part, chosen, classes=3)
    dataset = load(DataSpec(source="folder", path=str(tmp_path)))
    targets = dataset.validation.targets.tolist()
    assert targets != sorted(targets)
    other = load(DataSpec(source="folder", path=str(tmp_path), split=SplitSpec(seed=1)))
    assert other.validation.targets.tolist() != targets
    limited = load(DataSpec(source="folder", path=str(tmp_path), limit=12))
    assert any(f"all {len(targets)} of the validation split" in note for note in limited.notes)


def test_names_of_jpeg_and_phones_are_read_and_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    suffixes = ("jpg", "jfif", "jpe", "JIF", "pjpeg", "mpo", "png")
    for label in "ab":
        (tmp_path / label).mkdir()
        for index, suffix in enumerate(suffixes):
            image = Image.fromarray(RANDOM.integers(0, 255, (8, 16, 3), dtype=np.uint8))
            file = tmp_path / label / f"{index}.{suffix}"
            if suffix == "png":
                image.save(file, exif=exif)
            else:
                image.save(file, "MPO", save_all=True, append_images=[image], exif=exif)
    dataset = load(DataSpec(source="folder", path=str(tmp_path)))
    assert dataset.task.inputs["image"] == (3, 16, 8)
    assert dataset.skipped_files == ()


def test_splits_in_two_unicode_forms_are_merged_and_unlabelled_tests_are_skipped(
    tmp_path: Path,
) -> None:
    for part, name in (("train", "caf\u00e9"), ("val", "cafe\u0301")):
        pictures.write_digits(tmp_path / part, range(60), classes=2)
        (tmp_path / part / "0").rename(tmp_path / part / name)
    (tmp_path / "test").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "test" / "1.png")
    found = find(tmp_path)
    assert found.class_names == ("1", "caf\u00e9")
    assert set(found.splits) == {"train", "validation"}
    assert set(found.splits["validation"].targets) == {0, 1}
    assert found.ignored == ("test",)
    assert len(found.notes) == 2


@pytest.mark.parametrize(
    ("link", "target"), [("round", "."), ("0/up", ".."), ("self", "self"), ("0/s.png", "s.png")]
)
def test_links_to_parents_are_skipped(link: str, target: str, tmp_path: Path) -> None:
    pictures.write_digits(tmp_path, range(20), classes=2)
    (tmp_path / link).symlink_to(target)
    found = find(tmp_path)
    assert found.class_names == ("0", "1")
    assert found.ignored == (link,)
    files, _ = expand([str(tmp_path)])
    assert sorted(files) == sorted(tmp_path.glob("[01]/[0-9]*.png"))


def test_series_are_normalized_by_feature_and_tokens_not_at_all() -> None:
    series = RANDOM.normal((0.0, 1e5), (1.0, 300.0), (40, 16, 2)).astype("f4")
    tokens = RANDOM.integers(0, 99, (40, 16))
    split = Split(inputs={"series": series, "text": tokens}, targets=np.arange(40) % 2)
    (batch,) = DeviceSplit(split, Normalisation.of(split), torch.device("cpu")).in_order(40)
    assert batch.inputs["series"].std((0, 1)).tolist() == pytest.approx([1, 1], abs=0.01)
    assert torch.equal(batch.inputs["text"], torch.from_numpy(tokens))


@pytest.mark.parametrize("name", [name for name, augment in AUGMENTATIONS.items() if augment])
def test_floats_are_augmented_within_their_own_range(name: str) -> None:
    images = RANDOM.normal(2000, 5, (40, 1, 8, 8)).astype("f4")
    split = Split(inputs={"image": images}, targets=np.arange(40) % 2)
    held = DeviceSplit(split, Normalisation.of(split), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    for batch in held.shuffled(20, AUGMENTATIONS[name], generator):
        assert float(batch.inputs["image"].abs().max()) < 6
        assert 1970 < float(batch.raw["image"].min()) < float(batch.raw["image"].max()) < 2030


def test_color_images_are_in_memory_once_for_all_attempts(tmp_path: Path) -> None:
    dataset = npz(
        tmp_path, RANDOM.integers(0, 255, (60, 9, 9, 3), dtype=np.uint8), np.arange(60) % 2
    )
    again = Dataset.from_arrays(dataset.to_arrays())
    first, _, normalisation = on_device(again, torch.device("cpu"))
    second, _, same = on_device(again, torch.device("cpu"))
    assert first.inputs["image"].data_ptr() == second.inputs["image"].data_ptr()
    assert np.shares_memory(first.inputs["image"].numpy(), dataset.train.inputs["image"])
    assert normalisation is same


@pytest.mark.parametrize("version", [1, 2])
def test_reclaimable_pages_are_memory_to_be_had(version: int, tmp_path: Path) -> None:
    folder, names = tmp_path, ("memory.max", "memory.current", "inactive_file")
    if version == 1:
        folder = tmp_path / "memory"
        folder.mkdir()
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    (folder / names[0]).write_text("80000000\n")
    (folder / names[1]).write_text("78000000\n")
    (folder / "memory.stat").write_text(f"anon 1000\n{names[2]} 62000000\n")
    assert available_bytes(tmp_path) == 64_000_000
