"""TIFFs as tifffile writes them, in both byte orders, against the numbers that were written."""

import struct
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from stages.formats import ImageError
from stages.web_image import WebImage, open_image
from tests.stages.pictures import encode
from tests.stages.raw_files import tiff

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (30, 40, 4), dtype=np.uint16)
FLOATS = RNG.random((30, 40, 3))
BYTES = RNG.integers(0, 256, (30, 40, 4), dtype=np.uint8)
ORDERS = pytest.mark.parametrize("byteorder", ["<", ">"])


def furthest(data: bytes, expected: npt.NDArray[Any]) -> float:
    pixels = open_image(data, 10**6)
    expected = expected[..., None].repeat(3, axis=2) if expected.ndim == 2 else expected
    assert pixels.shape == expected.shape
    return float(np.abs(pixels - expected.astype(float)).max())


def over_white(samples: npt.NDArray[Any], white: int) -> npt.NDArray[Any]:
    alpha = samples[..., -1:] / white
    return 255 * (samples[..., :-1] / white * alpha + 1 - alpha)


def reason_of(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        open_image(data, 10**6)
    return caught.value.reason


@ORDERS
def test_16_bit_rgb_and_gray_are_scaled_by_their_white(byteorder: str) -> None:
    rgb = DEEP[..., :3]
    assert furthest(tiff(rgb, photometric="rgb", byteorder=byteorder), rgb / 257) <= 1
    assert furthest(tiff(rgb[..., 0], photometric="minisblack", byteorder=byteorder), rgb[..., 0] / 257) <= 0.51
    packed = tiff(rgb, photometric="rgb", compression="zlib", predictor=True, byteorder=byteorder)
    assert furthest(packed, rgb / 257) <= 1


@ORDERS
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floats_of_any_kind_are_scaled_by_one(byteorder: str, kind: type[np.floating]) -> None:
    for floats, photometric in ((FLOATS, "rgb"), (FLOATS[..., 0], "minisblack")):
        data = tiff(floats.astype(kind), photometric=photometric, byteorder=byteorder)
        assert furthest(data, np.rint(255 * floats)) <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_floats_are_turned_upright(orientation: int) -> None:
    turns = [lambda a: a, np.fliplr, lambda a: np.rot90(a, 2), np.flipud, lambda a: a.swapaxes(0, 1)]
    turns += [lambda a: np.rot90(a, -1), lambda a: np.rot90(a, 2).swapaxes(0, 1), np.rot90]
    expected = turns[orientation - 1](np.rint(255 * FLOATS))
    data = tiff(FLOATS.astype(np.float32), photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    upright = WebImage(data, 10**6).decode()
    assert (upright.height, upright.width) == expected.shape[:2]
    assert np.abs(upright.pixels - expected).max() <= 1


@pytest.mark.parametrize(("kind", "most"), [(np.float32, 3), (np.float64, 6)])
def test_many_bytes_of_floats_are_a_bomb(kind: type[np.floating], most: int) -> None:
    """A hundred million pixels of 24 bytes, deflated to little, would take ten gigabytes."""
    data = tiff(FLOATS.astype(kind), photometric="rgb")
    WebImage(data, 30 * 40 * most)
    with pytest.raises(ImageError) as caught:
        WebImage(data, 30 * 40 * most - 1)
    assert caught.value.reason == "bomb"


def test_the_size_of_floats_is_judged_before_they_are_decoded() -> None:
    with pytest.raises(ImageError, match="max_pixels") as caught:
        WebImage(tiff(FLOATS.astype(np.float32), photometric="rgb"), 30 * 40 - 1)
    assert caught.value.reason == "bomb"


@pytest.mark.parametrize("white", [255, 65535])
def test_floats_whose_white_is_not_one_are_refused(white: int) -> None:
    for floats, photometric in ((FLOATS, "rgb"), (FLOATS[..., 0], "minisblack")):
        assert reason_of(tiff((white * floats).astype(np.float32), photometric=photometric)) == "unsupported_format"


def test_some_highlights_and_gaps_among_floats_are_clipped() -> None:
    floats = FLOATS[..., 0].astype(np.float32)
    floats[0, :5] = (7, np.inf, -0.2, np.nan, -np.inf)
    expected = np.rint(255 * np.clip(floats, 0, 1))
    expected[0, 3] = 0
    assert furthest(tiff(floats, photometric="minisblack"), expected) <= 1


@ORDERS
@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "u4"])
def test_samples_whose_white_nobody_knows_are_refused(byteorder: str, kind: str) -> None:
    assert (
        reason_of(tiff(BYTES[..., 0].astype(kind), photometric="minisblack", byteorder=byteorder))
        == "unsupported_format"
    )


@ORDERS
def test_deep_channels_stored_apart_are_refused_and_shallow_ones_read(byteorder: str) -> None:
    planes = np.moveaxis(DEEP[..., :3], -1, 0).copy()
    options = {"photometric": "rgb", "planarconfig": "separate", "byteorder": byteorder}
    assert reason_of(tiff(planes, **options)) == "unsupported_format"
    shallow = np.moveaxis(BYTES[..., :3], -1, 0).copy()
    assert furthest(tiff(shallow, **options), BYTES[..., :3]) == 0


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_one_that_was_cut_is_truncated_where_its_directory_comes_last(compression: str) -> None:
    data = encode("TIFF", compression=compression)
    assert int.from_bytes(data[4:8], "little") > len(data) // 2
    for length in (len(data) // 2, len(data) - 50, len(data) - 1):
        assert reason_of(data[:length]) == "truncated"


def test_half_floats_are_refused() -> None:
    assert reason_of(tiff(FLOATS[..., 0].astype(np.float16), photometric="minisblack")) == "unsupported_format"


@pytest.mark.parametrize(("samples", "white"), [(BYTES, 255), (DEEP, 65535)], ids=["8-bit", "16-bit"])
def test_alpha_of_both_kinds_is_laid_over_white(samples: npt.NDArray[Any], white: int) -> None:
    expected = over_white(samples, white)
    assert furthest(tiff(samples, photometric="rgb", extrasamples=["unassalpha"]), expected) <= 2
    multiplied = samples.copy()
    multiplied[..., :3] = np.rint(samples[..., :3] * (samples[..., 3:] / white))
    assert furthest(tiff(multiplied, photometric="rgb", extrasamples=["assocalpha"]), expected) <= 3
    gray = samples[..., [0, 3]]
    if white == 255:
        assert (
            furthest(tiff(gray, photometric="minisblack", extrasamples=["unassalpha"]), over_white(gray, white)[..., 0])
            <= 1
        )


def test_a_channel_that_is_no_alpha_is_left_out() -> None:
    assert furthest(tiff(BYTES, photometric="rgb", extrasamples=["unspecified"]), BYTES[..., :3]) == 0


@ORDERS
def test_white_may_be_zero(byteorder: str) -> None:
    assert furthest(tiff(BYTES[..., 0], photometric="miniswhite", byteorder=byteorder), 255 - BYTES[..., 0]) == 0


def test_inks_are_subtracted() -> None:
    shares = BYTES / 255
    expected = 255 * (1 - shares[..., :3]) * (1 - shares[..., 3:])
    assert furthest(tiff(BYTES, photometric="separated"), expected) <= 2
    assert furthest(tiff(BYTES * np.uint16(257), photometric="separated"), expected) <= 2


def test_a_palette_of_16_bit_colours_is_read() -> None:
    colours = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    assert furthest(tiff(BYTES[..., 0], photometric="palette", colormap=colours), colours.T[BYTES[..., 0]] // 256) <= 1


def test_luma_and_chroma_are_read() -> None:
    y, cb, cr = (BYTES[..., i].astype(float) for i in range(3))
    expected = np.stack(
        [y + 1.402 * (cr - 128), y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128), y + 1.772 * (cb - 128)], -1
    )
    assert furthest(tiff(BYTES[..., :3], photometric="ycbcr", subsampling=(1, 1)), np.clip(expected, 0, 255)) <= 3


def test_lab_is_made_srgb() -> None:
    lab = np.stack(np.meshgrid(np.linspace(25, 90, 12), np.linspace(-15, 15, 5), np.linspace(-15, 15, 5)), -1).reshape(
        12, 25, 3
    )
    stored = np.rint(lab * (2.55, 1, 1)).astype(np.int16).astype(np.uint8)  # a and b are signed
    lightness, a, b = np.moveaxis(np.rint(lab * (2.55, 1, 1)) / (2.55, 1, 1), -1, 0)
    y = (lightness + 16) / 116
    cubed = [np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) for f in (y + a / 500, y, y - b / 200)]
    xyz = np.stack(cubed, -1) * (0.9642, 1, 0.8249)
    to_rgb = np.linalg.inv([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])
    linear = xyz @ to_rgb.T
    expected = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)
    there = ((linear > 0.02) & (linear < 1)).all(-1)  # in sRGB's gamut
    pixels = open_image(tiff(stored, photometric="cielab"), 10**6)
    assert there.mean() > 0.5
    assert np.abs(pixels - expected)[there].max() <= 3  # 8 bits of Lab are coarser than 8 of sRGB


def test_other_layouts_of_the_same_pixels_are_read() -> None:
    rgb = BYTES[..., :3]
    assert furthest(tiff(rgb, photometric="rgb", bigtiff=True), rgb) == 0
    assert furthest(tiff(np.tile(rgb, (4, 4, 1)), photometric="rgb", tile=(32, 32)), np.tile(rgb, (4, 4, 1))) == 0
    assert furthest(tiff(np.stack([rgb, 255 - rgb]), photometric="rgb"), rgb) == 0


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_a_picture_whose_strips_end_before_its_last_row_is_truncated(planar: str) -> None:
    samples = BYTES[..., :3] if planar == "contig" else np.ascontiguousarray(BYTES[..., :3].transpose(2, 0, 1))
    data = tiff(samples, photometric="rgb", planarconfig=planar, rowsperstrip=30)
    assert furthest(data, BYTES[..., :3]) <= 1
    rows = struct.pack("<HHII", 278, 4, 1, 30), struct.pack("<HHII", 278, 4, 1, 10)
    short = struct.pack("<HHIHH", 278, 3, 1, 30, 0), struct.pack("<HHIHH", 278, 3, 1, 10, 0)
    for whole, less in (rows, short):
        if data.count(whole) == 1:
            assert reason_of(data.replace(whole, less)) == "truncated"
            return
    raise AssertionError("it says nowhere how many rows a strip has")
