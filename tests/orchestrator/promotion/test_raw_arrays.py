"""Images as users have them and as networks take them: one undoes the other."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import PromotionRefusedError
from orchestrator.promotion.comparison import _preprocessed_for_champion
from orchestrator.promotion.package import to_raw_arrays
from workers.data import DataSpec, Preprocessing
from workers.data.preprocessing import prepare_arrays


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1), (-1, 1), (-3.7, 12.25), (1e-6, 2e-6)])
def test_preprocessing_a_raw_array_gives_the_same_bytes(
    channels: int, low: float, high: float
) -> None:
    prepared = Preprocessing(channels=channels, height=16, width=17, low=low, high=high)
    pixels = np.arange(256 * channels * 17, dtype=np.int64).reshape(-1, channels, 16, 17) % 256
    pixels = pixels.astype(np.uint8)
    values = to_raw_arrays(pixels, prepared)
    assert values.shape[1:3] == (16, 17)
    assert values.dtype == (np.uint8 if (low, high) == (0, 255) else np.float64)
    np.testing.assert_array_equal(prepare_arrays(values, prepared), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_float_arrays_are_unchanged(channels: int) -> None:
    p = Preprocessing(channels=channels, height=16, width=17, low=-9.0, high=9.0, dtype="float32")
    images = np.random.default_rng(0).normal(size=(5, channels, 16, 17)).astype(np.float32)
    values = to_raw_arrays(images, p)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(prepare_arrays(values, p), images)


BYTES = Preprocessing(channels=1, height=8, width=8)
EARLIER = replace(BYTES, low=-3.0, high=4.0)
"""Floats in bytes, as releases before had them."""
FLOATS = replace(EARLIER, dtype="float32")


def compare(champion: Preprocessing, ours: Preprocessing) -> None:
    inputs = {"image": (1, 8, 8)}
    winner: Any = SimpleNamespace(
        preprocessing=ours,
        dataset=SimpleNamespace(task=SimpleNamespace(inputs=inputs), validation=None),
        config=SimpleNamespace(data=DataSpec(source="npz")),
    )
    prepared = champion.to_dict()
    if champion.dtype == "uint8":
        del prepared["dtype"]  # as releases before wrote it
    facts = {"inputs": {"image": [1, 8, 8]}, "preprocessing": prepared}
    found, _ = _preprocessed_for_champion(winner, facts)
    assert found == ours


@pytest.mark.parametrize(
    ("champion", "ours"),
    [(BYTES, BYTES), (FLOATS, replace(FLOATS, low=-9.0)), (EARLIER, FLOATS)],
)
def test_models_of_the_same_arrays_are_compared(
    champion: Preprocessing, ours: Preprocessing
) -> None:
    compare(champion, ours)


@pytest.mark.parametrize(("champion", "ours"), [(BYTES, FLOATS), (FLOATS, BYTES), (EARLIER, BYTES)])
def test_models_of_bytes_and_of_other_arrays_are_not_compared(
    champion: Preprocessing, ours: Preprocessing
) -> None:
    with pytest.raises(PromotionRefusedError, match="prepared"):
        compare(champion, ours)
