"""Batches: every example once, normalized by the training split, augmented without damage."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from workers.data import Dataset
from workers.data.dataset import Split
from workers.training import batches as batches_module
from workers.training.augmentation import AUGMENTATIONS, cut_out, flip, shift
from workers.training.batches import ChannelStatistics, DeviceSplit, Normalisation, on_device

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(count: int) -> DeviceSplit:
    """Examples that carry their own number as their only pixel and as their label."""
    numbers = np.arange(count)
    split = Split(inputs={"image": numbers.astype(np.uint8).reshape(-1, 1, 1, 1)}, targets=numbers)
    return DeviceSplit(split, Normalisation(mean={"image": (0.0,)}, std={"image": (1.0,)}), CPU)


@pytest.mark.parametrize("block_bytes", [1, 200, 10**6])
def test_a_shuffled_epoch_serves_every_example_once(
    monkeypatch: pytest.MonkeyPatch, block_bytes: int
) -> None:
    monkeypatch.setattr(batches_module, "BLOCK_BYTES", block_bytes)
    split = numbered(100)
    served = list(split.shuffled(8, None, seeded()))
    assert len(served) == split.num_batches(8) == 13
    assert [len(batch.targets_B) for batch in served] == [8] * 12 + [4]
    seen = torch.cat([batch.targets_B for batch in served])
    assert sorted(seen.tolist()) == list(range(100)) != seen.tolist()
    pixels = torch.cat([batch.inputs["image"].flatten() for batch in served])
    assert torch.equal(pixels, seen.float())


@given(st.integers(1, 60), st.integers(1, 20))
def test_an_epoch_skips_at_most_one_example_that_would_be_a_batch_of_one(
    count: int, batch_size: int
) -> None:
    split = numbered(count)
    sizes = [len(batch.targets_B) for batch in split.shuffled(batch_size, None, seeded())]
    assert len(sizes) == split.num_batches(batch_size)
    left_out = count - sum(sizes)
    assert left_out == (count > batch_size > 1 and count % batch_size == 1)
    assert min(sizes) > 1 or batch_size == 1 or count == 1


def test_the_generator_alone_decides_the_order() -> None:
    def order(seed: int) -> list[int]:
        torch.rand(3)
        served = numbered(50).shuffled(5, None, seeded(seed))
        return torch.cat([batch.targets_B for batch in served]).tolist()

    assert order(1) == order(1) != order(2)


def test_evaluation_serves_every_example_in_order() -> None:
    served = [batch.targets_B for batch in numbered(10).in_order(4)]
    assert [len(targets) for targets in served] == [4, 4, 2]
    assert torch.cat(served).tolist() == list(range(10))


def test_fewer_examples_than_a_batch_make_one_batch() -> None:
    split = numbered(5)
    assert [len(batch.targets_B) for batch in split.shuffled(8, None, seeded())] == [5]
    assert split.num_batches(8) == 1


def test_the_training_part_has_mean_zero_and_deviation_one(digits: Dataset) -> None:
    train, validation, normalisation = on_device(digits, CPU)
    values = torch.cat([batch.inputs["image"] for batch in train.in_order(300)])
    assert float(values.mean()) == pytest.approx(0, abs=1e-4)
    assert float(values.std()) == pytest.approx(1, abs=1e-3)
    assert validation.normalisation is train.normalisation is normalisation
    pixels = digits.train.inputs["image"].astype(np.float64)
    assert normalisation.to_dict()["image"]["mean"] == pytest.approx([pixels.mean()])
    assert normalisation.to_dict()["image"]["deviation"] == pytest.approx([pixels.std()])


def test_channels_are_normalised_each_by_itself_and_a_constant_one_stays_finite() -> None:
    pixels = np.zeros((6, 2, 2, 2), dtype=np.uint8)
    pixels[:, 0] = np.arange(6).reshape(-1, 1, 1) * 10
    pixels[:, 1] = 7
    split = Split(inputs={"image": pixels}, targets=np.arange(6) % 2)
    served = DeviceSplit(split, Normalisation.of(split), CPU)
    values = torch.cat([batch.inputs["image"] for batch in served.in_order(4)])
    assert float(values[:, 0].mean()) == pytest.approx(0, abs=1e-5)
    assert torch.equal(values[:, 1], torch.zeros(6, 2, 2))


def test_regression_targets_are_standardized_by_the_training_split_and_back() -> None:
    values = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 10.0]], dtype=np.float32)
    state = np.array([[0.0], [2.0], [4.0]], dtype=np.float32)
    split = Split(inputs={"state": state}, targets=np.zeros(3, dtype=np.int64), values=values)
    normalisation = Normalisation.of(split)
    assert normalisation.to_dict()["values"] == {
        "mean": pytest.approx([3, 10]),
        "deviation": pytest.approx([np.sqrt(8 / 3), 1]),
    }
    (batch,) = DeviceSplit(split, normalisation, CPU).in_order(4)
    assert batch.values_BV[:, 0].tolist() == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)])
    assert batch.inputs["state"][:, 0].tolist() == pytest.approx([-np.sqrt(1.5), 0, np.sqrt(1.5)])
    assert torch.equal(batch.raw["state"], torch.from_numpy(state))
    torch.testing.assert_close(
        batch.target_scaler.values(batch.values_BV), torch.from_numpy(values)
    )


def test_read_only_arrays_are_used_without_copy_or_warning() -> None:
    pixels = np.zeros((4, 1, 2, 2), dtype=np.uint8)
    pixels.flags.writeable = False
    split = Split(inputs={"image": pixels}, targets=np.arange(4) % 2)
    held = DeviceSplit(split, Normalisation.of(split), CPU)
    assert held.inputs["image"].data_ptr() == pixels.ctypes.data


def pictures(count: int = 40, channels: int = 2) -> torch.Tensor:
    """Bright pictures in which every pixel differs from its neighbors."""
    pixels = torch.arange(count * channels * 36) % 199 + 56
    return pixels.to(torch.uint8).reshape(count, channels, 6, 6)


def channels(count: int) -> ChannelStatistics:
    """Channels of bytes in which 0 is background."""
    return ChannelStatistics(*torch.tensor([100.0, 50.0, 0.0, 255.0]).expand(count, 4).T)


def test_a_shift_moves_each_picture_whole_and_by_no_more_than_asked() -> None:
    images = pictures()
    moved = shift(images, 1, channels(2), seeded())
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    places = set()
    for before, after in zip(padded, moved, strict=True):
        fits = [
            (row, column)
            for row in range(3)
            for column in range(3)
            if torch.equal(before[:, row : row + 6, column : column + 6], after)
        ]
        assert len(fits) == 1
        places.update(fits)
    assert len(places) == 9


def test_a_flip_mirrors_about_half_of_the_pictures() -> None:
    images = pictures(200)
    flipped = flip(images, seeded())
    mirrored = sum(bool(torch.equal(a.flip(2), b)) for a, b in zip(images, flipped, strict=True))
    kept = sum(bool(torch.equal(a, b)) for a, b in zip(images, flipped, strict=True))
    assert mirrored + kept == 200
    assert 70 < mirrored < 130


def test_cutting_out_darkens_one_square_and_nothing_else() -> None:
    images = pictures()
    cut = cut_out(images, 2, channels(2), seeded())
    dark = cut == 0
    assert torch.equal(cut[~dark], images[~dark])
    assert torch.equal(dark[:, 0], dark[:, 1])
    per_picture = dark[:, 0].sum((1, 2))
    assert per_picture.max() == 4
    assert per_picture.min() >= 1


@pytest.mark.parametrize("name", [name for name, augment in AUGMENTATIONS.items() if augment])
@pytest.mark.parametrize("size", [(1, 8, 8), (3, 28, 20)])
def test_every_augmentation_keeps_shape_and_type_and_follows_its_generator(
    name: str, size: tuple[int, int, int]
) -> None:
    augment = AUGMENTATIONS[name]
    assert augment is not None
    images = torch.randint(0, 256, (16, *size), dtype=torch.uint8, generator=seeded())
    once, again, other = (augment(images, channels(size[0]), seeded(seed)) for seed in (1, 1, 2))
    assert once.shape == images.shape
    assert once.dtype == torch.uint8
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


@given(
    name=st.sampled_from([name for name, augment in AUGMENTATIONS.items() if augment]),
    levels=st.sampled_from([2, 17, 256]),
    scale=st.one_of(st.none(), st.floats(1e-6, 1e6)),
    offset=st.floats(-3, 3),
    seed=st.integers(0, 2**32),
)
def test_augmentation_adds_only_values_like_those_of_each_channel(
    name: str, levels: int, scale: float | None, offset: float, seed: int
) -> None:
    images = np.random.default_rng(seed).integers(0, levels, (40, 2, 8, 8)).astype(np.uint8)
    if scale is not None:
        images = (images * np.float32(scale) + np.float32(offset * scale)).astype(np.float32)
        images[:, 1] *= 1000
    split = Split(inputs={"image": images}, targets=np.arange(40) % 2)
    held = DeviceSplit(split, Normalisation.of(split), CPU)
    (plain,) = held.in_order(40)
    (batch,) = held.shuffled(40, AUGMENTATIONS[name], seeded(seed))
    assert batch.raw["image"].dtype == plain.raw["image"].dtype
    for extreme in (torch.amin, torch.amax):
        limits = extreme(plain.inputs["image"], (0, 2, 3))
        beyond = extreme(batch.inputs["image"], (0, 2, 3)) - limits
        assert (beyond if extreme is torch.amax else -beyond).max() < 1e-4


@pytest.mark.parametrize("name", [name for name, augment in AUGMENTATIONS.items() if augment])
def test_an_outlier_is_neither_background_nor_noise(name: str) -> None:
    images = np.random.default_rng(0).normal(0, 1, (400, 1, 8, 8)).astype(np.float32)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = -1e4, 1e4
    split = Split(inputs={"image": images}, targets=np.arange(400) % 2)
    held = DeviceSplit(split, Normalisation.of(split), CPU)
    (batch,) = held.shuffled(400, AUGMENTATIONS[name], seeded())
    assert (batch.inputs["image"].abs() > 6).sum() <= 2
