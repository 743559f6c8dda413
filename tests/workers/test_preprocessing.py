"""Whatever image or array comes in, a network gets it in one shape and type, with nothing lost."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from workers.data.preprocessing import (
    MAX_SIDE,
    MIN_SIDE,
    Preprocessing,
    array_dtype,
    common_size,
    picture_preprocessing,
    prepare,
    prepare_arrays,
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
    ("mode", "color", "expected"),
    [
        ("1", 1, 255),
        ("LA", (77, 255), 77),
        ("LA", (77, 0), 255),
        ("RGBA", (9, 9, 9, 255), 9),
        ("RGBA", (9, 9, 9, 0), 255),
        ("I;16", 65535, 255),
        ("I", 257 * 40, 40),
        ("I", -5, 0),
        ("F", 300.0, 255),
        ("RGB", (10, 10, 10), 10),
    ],
)
def test_grey_keeps_its_brightness_whatever_holds_it(
    mode: str, color: float | tuple[int, ...], expected: int
) -> None:
    preprocessing = Preprocessing(channels=1, height=8, width=8)
    assert set(prepare(Image.new(mode, (8, 8), color), preprocessing).flat) == {expected}


def test_a_palette_gives_its_colours() -> None:
    preprocessing = Preprocessing(channels=3, height=8, width=8)
    red = Image.new("RGB", (8, 8), (200, 10, 20))
    for image in (red, red.convert("P", palette=Image.Palette.ADAPTIVE)):
        assert prepare(image, preprocessing)[:, 0, 0].tolist() == [200, 10, 20]


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from(["RGBA", "LA", "RGBa", "La"]),
    gray=st.integers(0, 255),
    alpha=st.integers(0, 255),
    dtype=st.sampled_from(["uint8", "float32"]),
)
def test_transparency_is_laid_over_white_whatever_holds_it(
    mode: str, gray: int, alpha: int, dtype: str
) -> None:
    image = Image.merge("LA", [Image.new("L", (8, 8), value) for value in (gray, alpha)])
    image = image if mode.startswith("L") else image.convert("RGBA")
    image = image if mode == image.mode else image.convert(mode)
    over_white = round(255 + (gray - 255) * alpha / 255)
    p = Preprocessing(channels=1, height=8, width=8, dtype=dtype)
    spread = 255 // alpha + 2 if mode in {"RGBa", "La"} and alpha else 2
    assert abs(float(prepare(image, p)[0, 0, 0]) - over_white) <= spread


def test_a_colour_that_a_palette_or_a_key_makes_transparent_is_white() -> None:
    p = Preprocessing(channels=1, height=8, width=8)
    for mode, ink, ground in (("P", 1, 0), ("L", 9, 0), ("RGB", (9, 9, 9), (0, 0, 0))):
        image = Image.new(mode, (8, 8), ground)
        if mode == "P":
            image.putpalette([0] * 768)
        image.putpixel((3, 2), ink)
        file = io.BytesIO()
        image.save(file, "PNG", transparency=ground)
        with Image.open(file) as again:
            assert again.has_transparency_data
            pixels = prepare(again, p)[0]
        assert pixels[2, 3] < 10
        assert sorted(set(pixels.ravel().tolist()))[1:] == [255]


@settings(max_examples=30, deadline=None)
@given(
    low=st.integers(0, 65_000),
    span=st.integers(1, 500),
    channels=st.sampled_from([1, 3]),
)
def test_a_16_bit_picture_keeps_every_count(low: int, span: int, channels: int) -> None:
    counts = (low + np.arange(144).reshape(9, 16) % (span + 1)).astype(np.uint16)
    counts = np.minimum(counts, 65535).astype(np.uint16)
    pixels = prepare(Image.fromarray(counts), picture_preprocessing(channels, 9, 16, deep=True))
    assert pixels.dtype == np.float32
    assert (pixels == counts).all()


def test_a_key_makes_16_bit_pixels_white() -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8))
    image.info["transparency"] = 5
    prepared = prepare(image, picture_preprocessing(1, 8, 8, deep=True)).reshape(-1)
    assert prepared[5] == 65535
    assert (np.delete(prepared, 5) == np.delete(np.arange(64), 5)).all()


def test_8_bits_among_16_have_the_same_black_and_white() -> None:
    p = picture_preprocessing(3, 8, 8, deep=True)
    for gray in (0, 77, 255):
        assert (prepare(Image.new("L", (8, 8), gray), p) == 257 * gray).all()
    assert (prepare(Image.new("RGB", (8, 8), (1, 2, 3)), p)[:, 0, 0] == [257, 514, 771]).all()


def test_a_network_of_shares_takes_pictures_and_one_of_other_numbers_refuses_them() -> None:
    shares = Preprocessing(channels=1, height=8, width=8, low=0, high=1, dtype="float32")
    assert float(prepare(Image.new("L", (8, 8), 51), shares)[0, 0, 0]) == pytest.approx(0.2)
    with pytest.raises(ValueError, match=r"arrays of numbers, -2 to 2 in training, .* give .npy"):
        prepare(Image.new("L", (8, 8)), replace(shares, low=-2.0, high=2.0))


def test_an_image_is_turned_as_its_camera_says() -> None:
    image = Image.fromarray(np.repeat(np.arange(8, dtype=np.uint8)[:, None], 8, axis=1))
    image.getexif()[0x0112] = 6  # its first row is the right-hand side
    pixels = prepare(image, Preprocessing(channels=1, height=8, width=8))
    assert pixels[0, 0].tolist() == list(range(8))[::-1]


@given(
    sizes=st.lists(st.tuples(st.integers(1, 9000), st.integers(1, 9000)), min_size=1, max_size=9)
)
def test_the_common_size_is_within_its_bounds(sizes: list[tuple[int, int]]) -> None:
    for side in common_size(*zip(*sizes, strict=True)):
        assert MIN_SIDE <= side <= MAX_SIDE


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
    ("values", "dtype", "span"),
    [
        (np.array([0, 7, 200], dtype=np.uint8), "uint8", (0, 255)),
        (np.array([0, 16.0, 3]), "uint8", (0, 255)),
        (np.array([0, 0.5, 0.9]), "float32", (0, 1)),
        (np.array([True, False]), "float32", (0, 1)),
        (np.array([-1.5, 0, 2]), "float32", (-1.5, 2)),
        (np.array([0, 4095], dtype=np.uint16), "float32", (0, 4095)),
    ],
)
def test_arrays_are_bytes_where_these_lose_nothing_and_else_floats(
    values: np.ndarray, dtype: str, span: tuple[float, float]
) -> None:
    images = values[:, None, None]
    p = Preprocessing(channels=1, height=1, width=1, dtype=array_dtype(images)).fitted(images)
    assert (p.dtype, p.low, p.high) == (dtype, *span)
    prepared = prepare_arrays(images, p)
    assert prepared.dtype == dtype
    assert (prepared.ravel() == values.astype("f4")).all()


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "f2", "f4", "f8"]),
    numbers=st.lists(st.integers(0, 2000), min_size=6, max_size=24),
    shift=st.sampled_from([0, -1000]),
)
def test_no_value_of_an_array_is_changed(dtype: str, numbers: list[int], shift: int) -> None:
    values = (np.array(numbers[: len(numbers) // 6 * 6]) + shift).astype(dtype).reshape(-1, 2, 3)
    p = Preprocessing(channels=1, height=2, width=3, dtype=array_dtype(values)).fitted(values)
    prepared = prepare_arrays(values, p)
    assert (prepared[:, 0] == values).all()
    assert prepare_arrays(prepared, p).dtype == prepared.dtype


def test_scaled_values_fill_the_bytes_and_values_outside_are_clipped() -> None:
    preprocessing = Preprocessing(channels=1, height=1, width=3, low=-1.0, high=1.0)
    values = np.array([[[-1.0, 0.0, 1.0]], [[-9.0, 0.5, 9.0]]])
    assert prepare_arrays(values, preprocessing)[:, 0, 0].tolist() == [[0, 128, 255], [0, 191, 255]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((2, 9, 7), np.nan), "NaN or infinity"),
        (np.zeros((2, 9, 8)), r"shape \(9, 8\); the network reads 1 channels of 9 x 7"),
        (np.zeros((2, 9, 7), dtype=object), "type object, not numbers"),
        (np.full((2, 9, 7), 0.5), "range from 0.5 to 0.5, those of training from 0 to 255; mult"),
        (np.full((2, 9, 7), 256), "range from 256 to 256, .*; scale them alike"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_arrays(values, Preprocessing(channels=1, height=9, width=7))


@pytest.mark.parametrize("values", [np.full((2, 9, 7), 255, np.uint8), np.full((2, 9, 7), 200.0)])
def test_bytes_are_refused_where_shares_are_meant(values: np.ndarray) -> None:
    shares = Preprocessing(channels=1, height=9, width=7, high=1.0, dtype="float32")
    with pytest.raises(ValueError, match="those of training from 0 to 1; divide them"):
        prepare_arrays(values, shares)


@pytest.mark.parametrize("values", [np.full((2, 9, 7), 0.03), np.full((2, 9, 7), 60_000)])
def test_arrays_far_from_all_of_training_are_refused(values: np.ndarray) -> None:
    counts = Preprocessing(channels=1, height=9, width=7, low=2000.0, high=2100.0, dtype="float32")
    with pytest.raises(ValueError, match="those of training from 2000 to 2100; scale them alike"):
        prepare_arrays(values, counts)


def test_preprocessing_of_an_earlier_release_is_read_and_scales_as_it_did() -> None:
    earlier = {"channels": 1, "height": 1, "width": 2, "low": -1.0, "high": 1.0}
    p = Preprocessing.from_dict(earlier)
    assert prepare_arrays(np.array([[[-1.0, 0.5]]]), p).tolist() == [[[[0, 191]]]]


def test_preprocessing_survives_as_plain_data() -> None:
    given = Preprocessing(channels=3, height=9, width=7, low=-1.0, high=2.0)
    assert Preprocessing.from_dict(given.to_dict()) == given
    with pytest.raises(ValueError, match="reads 2 channels: arrays, not images"):
        prepare(Image.new("L", (8, 8)), Preprocessing(channels=2, height=8, width=8))
