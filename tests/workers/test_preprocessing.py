"""Whatever image or array comes in, a network gets bytes of the shape it takes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workers.data.preprocessing import (
    LARGEST_SIDE,
    SMALLEST_SIDE,
    Preprocessing,
    common_size,
    prepare,
    prepare_arrays,
    value_range,
)

MODES = (
    "1 L P RGB RGBA CMYK YCbCr HSV I F LA PA RGBX RGBa La I;16 I;16L I;16B".split()  # noqa: SIM905
)


@settings(max_examples=150, deadline=None)
@given(
    mode=st.sampled_from(MODES),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    channels=st.sampled_from([1, 3]),
    wanted=st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_any_image_becomes_bytes_of_the_promised_shape(
    mode: str, size: tuple[int, int], channels: int, wanted: tuple[int, int]
) -> None:
    preprocessing = Preprocessing(channels=channels, height=wanted[0], width=wanted[1])
    pixels = prepare(Image.new(mode, size), preprocessing)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (channels, *wanted)
    assert pixels.flags.c_contiguous


def test_an_image_of_the_right_kind_and_size_keeps_every_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    same = Preprocessing(channels=3, height=9, width=12)
    assert (prepare(Image.fromarray(pixels), same) == pixels.transpose(2, 0, 1)).all()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, 255),
        ("LA", (77, 0), 77),
        ("RGBA", (9, 9, 9, 0), 9),
        ("I;16", 65535, 255),
        ("I", 257 * 40, 40),
        ("I", -5, 0),
        ("F", 300.0, 255),
        ("RGB", (10, 10, 10), 10),
    ],
)
def test_grey_keeps_its_brightness_whatever_holds_it(
    mode: str, colour: float | tuple[int, ...], expected: int
) -> None:
    preprocessing = Preprocessing(channels=1, height=8, width=8)
    assert set(prepare(Image.new(mode, (8, 8), colour), preprocessing).flat) == {expected}


def test_a_palette_gives_its_colours_and_alpha_is_dropped() -> None:
    preprocessing = Preprocessing(channels=3, height=8, width=8)
    red = Image.new("RGBA", (8, 8), (200, 10, 20, 30))
    for image in (red, red.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE)):
        assert prepare(image, preprocessing)[:, 0, 0].tolist() == [200, 10, 20]


def test_an_image_is_turned_as_its_camera_says() -> None:
    image = Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8)[:, None], 8, axis=1))
    image.getexif()[0x0112] = 6  # its first row is the right-hand side
    pixels = prepare(image, Preprocessing(channels=1, height=8, width=8))
    assert pixels[0, 0].tolist() == list(range(8))[::-1]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), min_size=1, max_size=9)
)
def test_the_common_size_lies_within_its_bounds(sizes: list[tuple[int, int]]) -> None:
    for side in common_size(*zip(*sizes, strict=True)):
        assert SMALLEST_SIDE <= side <= LARGEST_SIDE


def test_images_of_one_small_size_keep_it_and_large_ones_keep_their_proportions() -> None:
    assert common_size([28, 28], [20, 20]) == (28, 20)
    assert common_size([300, 480, 600], [400, 640, 800]) == (48, 64)


@pytest.mark.parametrize("shape", [(5, 9, 7), (5, 1, 9, 7), (5, 9, 7, 1)])
def test_arrays_are_taken_with_their_channels_anywhere(shape: tuple[int, ...]) -> None:
    values = np.arange(5 * 63, dtype=np.uint8).reshape(shape)
    pixels = prepare_arrays(values, Preprocessing(channels=1, height=9, width=7))
    assert pixels.shape == (5, 1, 9, 7)
    assert (pixels.ravel() == values.ravel()).all()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([0, 7, 200], dtype=np.uint8), (0, 255)),
        (np.array([0, 16.0, 3]), (0, 255)),
        (np.array([0, 0.5, 1]), (0, 1)),
        (np.array([True, False]), (0, 1)),
        (np.array([-1.5, 0, 2]), (-1.5, 2)),
        (np.array([0, 4095], dtype=np.uint16), (0, 4095)),
    ],
)
def test_the_range_of_values_is_that_of_bytes_of_shares_or_the_one_found(
    values: np.ndarray, expected: tuple[float, float]
) -> None:
    assert value_range(values[:, None, None]) == expected


def test_scaled_values_fill_the_bytes_and_what_lies_outside_is_cut() -> None:
    preprocessing = Preprocessing(channels=1, height=1, width=3, low=-1.0, high=1.0)
    values = np.array([[[-1.0, 0.0, 1.0]], [[-9.0, 0.5, 9.0]]])
    assert prepare_arrays(values, preprocessing)[:, 0, 0].tolist() == [[0, 128, 255], [0, 191, 255]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 9, 7), np.nan), "NaN or infinity"),
        (np.zeros((2, 9, 8)), r"shape \(9, 8\); the network takes 1 channels of 9 x 7"),
        (np.zeros((2, 9, 7), dtype=object), "type object, not numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(values: np.ndarray, message: str) -> None:
    preprocessing = Preprocessing(channels=1, height=9, width=7, high=1.0)
    with pytest.raises(ValueError, match=message):
        prepare_arrays(values, preprocessing)


def test_preprocessing_survives_as_plain_data() -> None:
    given = Preprocessing(channels=3, height=9, width=7, low=-1.0, high=2.0)
    assert Preprocessing.from_dict(given.to_dict()) == given
    with pytest.raises(ValueError, match="takes 2 channels: arrays, not images"):
        prepare(Image.new("L", (8, 8)), Preprocessing(channels=2, height=8, width=8))
