"""Colours that a file describes without an ICC profile, against formulas."""

import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ImageCms

from stages.coding import coded_profile
from stages.formats import ImageError
from stages.web_image import open_image
from tests.stages.pictures import SCENE, encode
from tests.stages.raw_files import GRAY, PALETTE, RGB, RGB_ALPHA, png

NOISE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
P3_TO_SRGB = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
BT2020_TO_SRGB = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])
"""Linear light to linear light, as published: CSS Color 4 and ITU-R BT.2087."""

Floats = npt.NDArray[np.float64]


def light(values: npt.NDArray[np.uint8]) -> Floats:
    shares = values / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def levels(linear: Floats) -> Floats:
    linear = np.clip(linear, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def gamma(value: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(value * 100_000))


def codes(primaries: int, transfer: int, full: int = 1) -> tuple[bytes, bytes]:
    return b"cICP", bytes([primaries, transfer, 0, full])


def furthest(data: bytes, expected: Floats | npt.NDArray[np.uint8]) -> float:
    pixels = open_image(data, 10**6)
    assert pixels.shape == expected.shape
    return float(np.abs(pixels - expected.astype(float)).max())


@pytest.mark.parametrize("exponent", [1.0, 1.8, 2.6])
def test_the_gamma_of_a_png_is_followed(exponent: float) -> None:
    expected = levels((NOISE / 255) ** exponent)
    assert furthest(png(NOISE, RGB, 8, gamma(1 / exponent)), expected) <= 2
    expected = levels((NOISE[..., :1].repeat(3, axis=2) / 255) ** exponent)
    assert furthest(png(NOISE[..., 0], GRAY, 8, gamma(1 / exponent)), expected) <= 2
    assert furthest(png(NOISE[..., 0] * np.uint16(257), GRAY, 16, gamma(1 / exponent)), expected) <= 2


def test_the_gamma_of_a_palette_and_beneath_alpha_is_followed() -> None:
    palette = NOISE.reshape(-1, 3)[:256]
    indices = np.arange(256).reshape(16, 16)
    expected = levels((palette[indices] / 255) ** 1.0)
    assert furthest(png(indices, PALETTE, 8, gamma(1), (b"PLTE", palette.tobytes())), expected) <= 2
    half = np.dstack([NOISE, np.full(NOISE.shape[:2], 128, np.uint8)])
    over = levels(NOISE / 255) * 128 / 255 + 127
    assert furthest(png(half, RGB_ALPHA, 8, gamma(1)), over) <= 2


@pytest.mark.parametrize("value", [0.45455, 0.4545, 0.47, 0, 1000])
def test_a_gamma_near_srgb_s_or_impossible_changes_nothing(value: float) -> None:
    assert furthest(png(NOISE, RGB, 8, gamma(value)), NOISE) == 0


def test_an_srgb_chunk_counts_before_gamma() -> None:
    assert furthest(png(NOISE, RGB, 8, (b"sRGB", b"\0"), gamma(1)), NOISE) == 0


def test_a_profile_counts_before_gamma_and_codes_before_a_profile() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = (b"iCCP", b"srgb\0\0" + zlib.compress(srgb))
    assert furthest(png(NOISE, RGB, 8, profile, gamma(1)), NOISE) == 0
    assert furthest(png(NOISE, RGB, 8, codes(1, 8), profile), levels(NOISE / 255)) <= 2


def test_the_chromaticities_of_a_png_are_followed() -> None:
    p3 = [31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000]
    expected = levels(light(NOISE) @ P3_TO_SRGB.T)
    assert furthest(png(NOISE, RGB, 8, gamma(1 / 2.2), (b"cHRM", struct.pack(">8I", *p3))), expected) <= 3


@pytest.mark.parametrize("points", [[0] * 8, [31270, 32900, 1, 1, 2, 2, 3, 3], [90000] * 8])
def test_impossible_chromaticities_change_nothing(points: list[int]) -> None:
    assert furthest(png(NOISE, RGB, 8, gamma(1), (b"cHRM", struct.pack(">8I", *points))), NOISE) == 0


@pytest.mark.parametrize(
    ("primaries", "matrix"), [(12, P3_TO_SRGB), (9, BT2020_TO_SRGB), (1, np.eye(3)), (2, np.eye(3))]
)
def test_the_primaries_of_png_and_avif_are_followed(primaries: int, matrix: Floats) -> None:
    expected = levels(light(NOISE) @ matrix.T)
    assert furthest(png(NOISE, RGB, 8, codes(primaries, 13)), expected) <= 3
    muted = 100 + SCENE // 5
    expected = levels(light(muted) @ matrix.T)
    assert furthest(avif(muted, primaries, 13), expected) <= 8


def avif(pixels: npt.NDArray[np.uint8], primaries: int, transfer: int, **options: object) -> bytes:
    data = encode("AVIF", pixels, quality=100, subsampling="4:4:4", **options)
    place = data.index(b"colrnclx") + 8
    return data[:place] + struct.pack(">HH", primaries, transfer) + data[place + 4 :]


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_refused(transfer: int) -> None:
    for data in (png(NOISE, RGB, 8, codes(9, transfer)), avif(SCENE, 9, transfer)):
        with pytest.raises(ImageError, match="high dynamic range") as caught:
            open_image(data, 10**6)
        assert caught.value.reason == "unsupported_format"


def test_narrow_range_is_refused() -> None:
    with pytest.raises(ImageError, match="narrow range"):
        open_image(png(NOISE, RGB, 8, codes(1, 13, full=0)), 10**6)


def test_a_linear_avif_is_made_srgb() -> None:
    muted = 60 + SCENE // 4
    assert furthest(avif(muted, 1, 8), levels(muted / 255)) <= 10


def test_a_profile_in_an_avif_counts_before_code_points() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert furthest(avif(100 + SCENE // 5, 12, 8, icc_profile=srgb), 100 + SCENE // 5) <= 8


@given(st.binary(max_size=200), st.integers(0, 400))
def test_broken_boxes_and_chunks_never_raise_anything_but_an_image_error(noise: bytes, place: int) -> None:
    for form, data in (("AVIF", AVIF), ("PNG", PNG)):
        broken = data[: place % len(data)] + noise + data[place % len(data) + len(noise) :]
        try:
            profile = coded_profile(form, broken, has_icc=False)
        except ImageError:
            continue
        assert profile is None or profile[36:40] == b"acsp"


AVIF = avif(SCENE, 12, 13)
PNG = png(NOISE, RGB, 8, gamma(0.6), codes(12, 13))
