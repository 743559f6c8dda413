"""Regression targets, alone or with classes, and vectors with images, from arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from search_spaces.task import Task
from workers.data import DataError, Dataset, DataSpec, SplitSpec, load
from workers.data.inspection import inspect

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(60, 5))
IMAGES = RANDOM.integers(0, 256, (60, 8, 8), dtype=np.uint8)
AMOUNTS = RANDOM.normal(size=60)
LABELS = np.arange(60) % 3


def given(path: Path, **arrays: Any) -> Path:
    np.savez(path / "d.npz", **arrays)
    return path / "d.npz"


def read(path: Path, **arrays: Any) -> Dataset:
    return load(DataSpec(source="npz", path=str(given(path, **arrays))))


def test_labels_with_fractions_are_regression_targets(tmp_path: Path) -> None:
    dataset = read(tmp_path, x=VECTORS, y=AMOUNTS)
    assert dataset.task == Task(inputs={"vector": (5,)}, num_classes=0, num_values=1)
    assert (dataset.class_names, dataset.value_names) == ((), ("0",))
    parts = (dataset.train, dataset.validation, dataset.open_test())
    found = {
        (*vector.tolist(), value)
        for part in parts
        for vector, value in zip(part.inputs["vector"], part.values[:, 0], strict=True)  # type: ignore[index]
    }
    examples = zip(VECTORS.astype("f4").tolist(), AMOUNTS.astype("f4"), strict=True)
    assert found == {(*vector, value) for vector, value in examples}
    assert dataset.preprocessing is None


def test_values_are_targets_in_addition_to_classes_and_keep_their_names(tmp_path: Path) -> None:
    values = np.column_stack([AMOUNTS, np.arange(60)])
    names = np.array(["angle", "count"])
    dataset = read(tmp_path, x=IMAGES, y=LABELS, values=values, value_names=names)
    assert dataset.task == Task(inputs={"image": (1, 8, 8)}, num_classes=3, num_values=2)
    assert dataset.value_names == ("angle", "count")
    assert Dataset.from_arrays(dataset.to_arrays()).value_names == ("angle", "count")
    for part in (dataset.train, dataset.validation, dataset.open_test()):
        assert part.values is not None
        np.testing.assert_array_equal(part.values[:, 1].astype(int) % 3, part.targets)
    other = read(tmp_path, x=IMAGES, y=LABELS, values=values + 1, value_names=names)
    assert other.digest != dataset.digest


def test_integers_are_regression_targets_where_the_array_is_called_values(tmp_path: Path) -> None:
    dataset = read(tmp_path, x=VECTORS, values=np.arange(60))
    assert (dataset.task.num_classes, dataset.task.num_values) == (0, 1)


def test_parts_of_their_own_keep_their_numbers(tmp_path: Path) -> None:
    arrays = {"x_train": VECTORS[:40], "y_train": AMOUNTS[:40]}
    arrays |= {"x_test": VECTORS[40:], "y_test": AMOUNTS[40:]}
    values = read(tmp_path, **arrays).open_test().values
    assert values is not None
    np.testing.assert_array_equal(values[:, 0], AMOUNTS[40:].astype("f4"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"y": AMOUNTS, "values": AMOUNTS}, "'y' contains fractions, hence regression targets"),
        ({"values": AMOUNTS[:50]}, "'x' has 60 examples, but 'values' has 50 labels"),
        ({"y": LABELS, "values": AMOUNTS[:50]}, "60 examples, but 'values' has 50 labels"),
        ({"values": np.full(60, 2.5)}, "contains only 2.5 as target '0': nothing to predict"),
        ({"values": np.where(LABELS, 1.0, np.nan)}, "'values' contains NaN or infinity"),
        ({"values": np.full(60, "a")}, "'values' contains text; regression targets must be"),
        (
            {"values": np.zeros((60, 2, 2))},
            "'values' has the shape (60, 2, 2); regression targets",
        ),
        ({"values": AMOUNTS * 1e300}, "'values' contains numbers beyond 3e38"),
        (
            {"values": AMOUNTS, "value_names": ["a", "b"]},
            "must be a list of 1 texts, one per target",
        ),
        ({"values_train": AMOUNTS, "values_test": AMOUNTS}, "'x' has no counterpart"),
        ({"x": np.where(LABELS[:, None] == 2, np.inf, VECTORS)}, "NaN or infinity in example 2"),
        ({"x": VECTORS * 0, "y": LABELS}, "every example is the same: nothing to learn from"),
        ({"x": VECTORS[:, 0]}, "'x' has the shape (60,); images are (N, height, width), or with"),
    ],
)
def test_unusable_regression_targets_are_refused(
    arrays: dict[str, Any], message: str, tmp_path: Path
) -> None:
    answers = {} if {"y", "values", "values_train"} & {*arrays} else {"y": AMOUNTS}
    with pytest.raises(DataError) as refused:
        read(tmp_path, **{"x": VECTORS, **answers, **arrays})
    assert message in str(refused.value)


def test_a_look_at_numbers_says_how_they_are_spread(tmp_path: Path) -> None:
    found = inspect(given(tmp_path, x=VECTORS, y=LABELS + 0.5))
    assert found.numbers == {"0": (0.5, 1.5, 2.5)}
    assert (found.classes, found.heights, found.shape) == ({}, None, (5,))


@pytest.mark.parametrize("source", ["shapes", "pendulum"])
def test_simulated_data_follow_from_the_seed_of_the_split_alone(source: str) -> None:
    one, other = (load(DataSpec(source=source, limit=90)) for _ in range(2))
    assert one.digest == other.digest
    assert load(DataSpec(source=source, limit=90, split=SplitSpec(seed=1))).digest != one.digest


def test_a_simulated_shape_is_rotated_by_its_target_angle() -> None:
    dataset = load(DataSpec(source="shapes"))
    ellipses = dataset.train.targets == dataset.class_names.index("ellipse")
    assert dataset.train.values is not None
    degrees_N = dataset.train.values[ellipses, 0]
    bright_NHW = dataset.train.inputs["image"][ellipses, 0].astype(float)
    bright_NHW = np.clip(bright_NHW - 90, 0, None)
    seen = bright_NHW.sum((1, 2)) > 3000
    weights_NHW = bright_NHW[seen] / bright_NHW[seen].sum((1, 2), keepdims=True)
    below, right = np.mgrid[:24, :24]
    x, y = (
        place - (weights_NHW * place).sum((1, 2))[:, None, None]
        for place in (
            np.broadcast_to(right, weights_NHW.shape),
            np.broadcast_to(below, (1, 24, 24)),
        )
    )
    xx, yy, xy = ((weights_NHW * part).sum((1, 2)) for part in (x * x, y * y, x * y))
    measured_N = np.rad2deg(0.5 * np.arctan2(2 * xy, xx - yy))
    assert seen.sum() > 200
    assert np.median(np.abs(measured_N - degrees_N[seen])) < 4


def test_a_pendulum_keeps_its_energy_and_swings_as_small_swings_do() -> None:
    from workers.data import pendulum

    states = pendulum.sample_states(500, np.random.default_rng(0))
    assert len(states) == 500
    after = pendulum.advance(states)
    np.testing.assert_allclose(pendulum.energy(after), pendulum.energy(states), atol=1e-7)
    small = pendulum.advance(np.array([[1e-4, 0.0]]))
    np.testing.assert_allclose(small, [[1e-4 * np.cos(0.25), -1e-4 * np.sin(0.25)]], rtol=1e-6)
