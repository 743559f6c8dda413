"""Images as users have them and as networks take them: one undoes the other."""

import numpy as np
import pytest

from orchestrator.promotion.package import natural
from workers.data import Preprocessing
from workers.data.preprocessing import prepare_arrays


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (0, 1), (-1, 1), (-3.7, 12.25), (1e-6, 2e-6)])
def test_preparing_an_image_again_gives_the_same_bytes(
    channels: int, low: float, high: float
) -> None:
    prepared = Preprocessing(channels=channels, height=16, width=17, low=low, high=high)
    pixels = np.arange(256 * channels * 17, dtype=np.int64).reshape(-1, channels, 16, 17) % 256
    pixels = pixels.astype(np.uint8)
    values = natural(pixels, prepared)
    assert values.shape[1:3] == (16, 17)
    assert values.dtype == (np.uint8 if (low, high) == (0, 255) else np.float64)
    np.testing.assert_array_equal(prepare_arrays(values, prepared), pixels)


@pytest.mark.parametrize("channels", [1, 3])
def test_floats_are_what_they_were(channels: int) -> None:
    p = Preprocessing(channels=channels, height=16, width=17, low=-9.0, high=9.0, dtype="float32")
    images = np.random.default_rng(0).normal(size=(5, channels, 16, 17)).astype(np.float32)
    values = natural(images, p)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(prepare_arrays(values, p), images)
