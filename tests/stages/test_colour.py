import io
import struct
import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageCms

from stages.colour import srgb_transform, to_srgb
from stages.formats import ImageError
from stages.pixels import Pixels
from stages.web_image import open_image
from tests.stages.raw_files import PALETTE, png

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SWAPPED = SRGB.replace(b"rXYZ", b"????").replace(b"bXYZ", b"rXYZ").replace(b"????", b"bXYZ")
"""sRGB with the primaries of red and blue exchanged: what follows it exchanges the channels."""

NOISE = np.random.default_rng(0).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def encode(form: str, image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def tiff(samples: npt.NDArray[np.uint8], bits: int, photometric: int, width: int, height: int) -> bytes:
    """A little-endian TIFF of one uncompressed strip, one sample a pixel."""
    tags = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 8,
        277: 1,
        278: height,
        279: samples.size,
    }
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    strip = samples.tobytes()
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP"])
def test_a_profile_is_followed(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    pixels = open_image(encode(form, Image.fromarray(NOISE), icc_profile=SWAPPED, **options), 10**6)
    assert np.abs(pixels.astype(int) - NOISE[..., ::-1]).max() <= 2


def test_the_profile_of_a_jpeg_is_followed() -> None:
    flat = Image.new("RGB", (16, 16), (200, 100, 50))
    pixels = open_image(encode("JPEG", flat, icc_profile=SWAPPED, quality=95), 10**6)
    assert np.abs(pixels.astype(int) - (50, 100, 200)).max() <= 4


def test_a_profile_is_followed_beneath_alpha() -> None:
    half = Image.new("RGBA", (4, 4), (200, 100, 0, 128))
    half.info["icc_profile"] = SWAPPED
    assert np.abs(np.asarray(to_srgb(half)).astype(int) - (127, 177, 227)).max() <= 2


@pytest.mark.parametrize("profile", [SRGB, b"no profile", SRGB[:200], b""])
def test_srgb_and_unusable_profiles_change_nothing(profile: bytes) -> None:
    assert np.array_equal(open_image(encode("PNG", Image.fromarray(NOISE), icc_profile=profile), 10**6), NOISE)


def test_a_profile_of_another_colour_space_is_ignored() -> None:
    assert srgb_transform(SWAPPED, "L") is None
    assert srgb_transform(SWAPPED, "CMYK") is None


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 10), (128, 132), (1, 254)])
def test_alpha_is_laid_over_white(alpha: int, expected: int) -> None:
    for image in (Image.new("RGBA", (3, 2), (10, 10, 10, alpha)), Image.new("LA", (3, 2), (10, alpha))):
        assert (open_image(encode("PNG", image), 10**6) == expected).all()


def test_a_transparent_palette_entry_and_a_transparent_colour_turn_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([0, 1])
    expected = [[[255, 255, 255], [0, 0, 255]]]
    assert open_image(encode("PNG", image, transparency=0), 10**6).tolist() == expected
    assert open_image(encode("PNG", image, transparency=b"\x00\xff"), 10**6).tolist() == expected
    assert open_image(encode("GIF", image, transparency=0), 10**6).tolist() == expected
    assert open_image(encode("PNG", image.convert("RGB"), transparency=(255, 0, 0)), 10**6).tolist() == expected


def gray_levels(data: bytes) -> list[int]:
    pixels: Pixels = open_image(data, 10**6)
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def test_16_bit_samples_are_scaled_by_their_white() -> None:
    samples = np.array([[0, 128, 257, 32896, 65535]], np.uint16)
    for data in (encode("PNG", Image.fromarray(samples)), encode("TIFF", Image.fromarray(samples))):
        assert gray_levels(data) == [0, 0, 1, 128, 255]


def test_12_bit_samples_are_scaled_by_their_white() -> None:
    packed = np.array([0x00, 0x07, 0xFF, 0xFF, 0xF0, 0x10], np.uint8)  # 0, 2047, 4095, 16
    assert gray_levels(tiff(packed, 12, 1, 4, 1)) == [0, 127, 255, 1]


def test_a_16_bit_tiff_whose_zero_is_white_is_turned() -> None:
    samples = np.array([0, 65535, 13107], "<u2").view(np.uint8)
    assert gray_levels(tiff(samples, 16, 0, 3, 1)) == [255, 0, 204]


def test_floats_are_scaled_by_one_and_a_few_beyond_are_clipped() -> None:
    samples = np.full((1, 200), 0.4, np.float32)
    samples[0, :7] = (0, 0.2, 1, 7, -1, np.nan, np.inf)
    assert gray_levels(encode("TIFF", Image.fromarray(samples)))[:8] == [0, 51, 255, 255, 0, 0, 255, 102]


def test_floats_of_another_white_are_refused() -> None:
    with pytest.raises(ImageError, match="lie outside 0 to 1"):
        to_srgb(Image.fromarray(np.linspace(0, 255, 200, dtype=np.float32)[None]))


def test_32_bit_integers_are_refused() -> None:
    with pytest.raises(ImageError, match=r"32-bit signed.*which is white") as caught:
        open_image(encode("TIFF", Image.fromarray(np.zeros((2, 2), np.int32))), 10**6)
    assert caught.value.reason == "unsupported_format"


def test_bilevel_pictures_are_black_and_white() -> None:
    image = Image.new("1", (2, 1))
    image.putdata([0, 255])
    assert gray_levels(encode("PNG", image)) == [0, 255]


def test_a_palette_that_is_missing_is_corrupt() -> None:
    with pytest.raises(ImageError) as caught:
        open_image(png(np.zeros((9, 9), np.uint8), PALETTE, 8), 100)
    assert caught.value.reason == "corrupt"


def test_large_profiles_are_not_kept() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tracemalloc.start()
    for number in range(4):
        srgb_transform(profile + bytes([number]) * 2**22, "RGB")
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 2**22
