import io
import struct
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.masks import encode_mask, mask_png
from tests.training.stream.make import smooth
from training.stream.example import SampleError
from training.stream.pixels import decode, decode_mask, read_header

PICTURE = smooth(np.random.default_rng(0), 90, 60)
JPEG = simplejpeg.encode_jpeg(PICTURE, 95, "RGB", "444")


def saved(pixels=PICTURE, mode="RGB", **options) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(sink, **{"format": "PNG", **options})
    return sink.getvalue()


def opened(data: bytes, **options) -> np.ndarray:
    return decode(data, read_header(data, "it"), "it", **options)


def reason(data: bytes, **options) -> str:
    with pytest.raises(SampleError) as error:
        decode(data, read_header(data, "it", **options), "it")
    assert "it" in str(error.value)
    return error.value.reason


@pytest.mark.parametrize("name", ["PNG", "WEBP", "BMP", "TIFF"])
def test_lossless_formats_come_out_as_they_went_in(name):
    assert np.array_equal(opened(saved(format=name, **({"lossless": True} if name == "WEBP" else {}))), PICTURE)


@pytest.mark.parametrize("name", ["AVIF", "GIF"])
def test_other_formats_come_out_nearly_so(name):
    assert np.abs(opened(saved(format=name)).astype(int) - PICTURE).mean() < 12


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_a_jpeg_is_as_pillow_decodes_it(options):
    data = saved(format="JPEG", quality=90, **options)
    assert read_header(data, "it").is_turbo
    with Image.open(io.BytesIO(data)) as image:
        assert np.abs(opened(data).astype(int) - np.asarray(image)).max() <= 4  # two builds of libjpeg-turbo


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_gray_and_cmyk_jpegs_become_rgb(mode):
    data = saved(mode=mode, format="JPEG", quality=95)
    wanted = np.asarray(Image.fromarray(PICTURE).convert(mode).convert("RGB")).astype(int)
    assert opened(data).shape == PICTURE.shape
    assert np.abs(opened(data) - wanted).mean() < 4


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA"])
def test_pngs_of_every_mode_become_rgb(mode):
    assert opened(saved(mode=mode)).shape == PICTURE.shape


def test_sixteen_bits_keep_their_upper_half():
    deep = np.arange(0, 65536, 4096, dtype=np.uint16).reshape(4, 4)
    sink = io.BytesIO()
    Image.fromarray(deep).save(sink, "PNG")
    assert np.array_equal(opened(sink.getvalue())[:, :, 0], deep >> 8)


def test_what_is_transparent_lies_on_white():
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:, :2, 3] = 255
    sink = io.BytesIO()
    Image.fromarray(clear).save(sink, "PNG")
    pixels = opened(sink.getvalue())
    assert (pixels[:, :2] == 0).all()
    assert (pixels[:, 2:] == 255).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "TIFF"])
def test_pictures_come_out_upright(orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(format=name, exif=exif)
    upright = np.asarray(_exif_reference(data))
    header = read_header(data, "it")
    assert (header.height, header.width) == upright.shape[:2]
    assert np.abs(opened(data).astype(int) - upright).max() <= 4
    half = opened(data, least=(header.width // 2, header.height // 2))
    if name == "JPEG":
        assert half.shape[:2] == (header.height // 2, header.width // 2)


def test_exif_is_found_behind_a_long_profile():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = saved(format="JPEG", exif=exif)
    profile = b"\xff\xe2" + struct.pack(">H", 60_002) + bytes(60_000)
    header = read_header(data[:2] + profile + data[2:], "it")
    assert (header.orientation, header.width, header.height) == (6, *PICTURE.shape[:2])


@pytest.mark.parametrize("end", range(2, 40))
def test_a_header_cut_short_anywhere_is_no_picture(end):
    exif = Image.Exif()
    exif[0x0112] = 6
    assert reason(saved(format="JPEG", exif=exif)[:end]) == "bad_image"


def _exif_reference(data: bytes) -> Image.Image:
    from PIL import ImageOps

    with Image.open(io.BytesIO(data)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


@settings(deadline=None)
@given(st.integers(1, 120), st.integers(1, 120))
def test_a_large_jpeg_is_decoded_smaller_but_never_too_small(width, height):
    pixels = opened(JPEG, least=(width, height))
    full = PICTURE.shape
    assert pixels.shape[0] >= min(height, full[0]) and pixels.shape[1] >= min(width, full[1])
    if width * 2 <= full[1] and height * 2 <= full[0]:
        assert pixels.shape[0] <= full[0] // 2 + 1
    else:
        assert pixels.shape == full


def test_pixels_are_written_into_a_given_view_of_the_right_size_and_no_other():
    batch = np.zeros((3, 60, 90, 3), np.uint8)
    assert opened(JPEG, out=batch[1]) is not None
    assert np.array_equal(batch[1], opened(JPEG))
    assert not batch[[0, 2]].any()
    other = np.zeros((61, 90, 3), np.uint8)
    assert opened(JPEG, out=other).shape == PICTURE.shape
    assert not other.any()


@given(st.integers(0, len(JPEG) - 1))
def test_a_jpeg_cut_short_anywhere_is_refused(length):
    assert reason(JPEG[:length]) == "bad_image"


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "described"
    return saved(format="JPEG", exif=exif)


PNG, WEBP, AVIF, TURNED = saved(), saved(format="WEBP"), saved(format="AVIF"), turned()


def test_a_picture_whose_exif_is_damaged_is_upright():
    start = TURNED.index(b"Exif\0\0") + 6
    damaged = TURNED[:start] + b"rubbish!" + TURNED[start + 8 :]
    assert opened(damaged).shape == PICTURE.shape


def test_every_kind_of_damage_to_an_avif_is_the_samples_error():
    for place in range(0, len(AVIF), 7):
        damaged = AVIF[:place] + bytes(12) + AVIF[place + 12 :]
        try:
            opened(damaged)
        except SampleError as error:
            assert error.reason in ("bad_image", "bomb")


def test_pixels_that_are_floats_are_refused_as_nobody_says_what_white_is():
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(stream, "TIFF")
    assert reason(stream.getvalue()) == "bad_image"


@given(st.sampled_from([PNG, WEBP]), st.floats(0, 0.95))
def test_other_pictures_cut_short_are_refused(data, share):
    assert reason(data[: int(share * len(data))]) == "bad_image"


DAMAGEABLE = {
    "jpeg": JPEG,
    "png": PNG,
    "webp": WEBP,
    "bilevel": saved(mode="1"),
    "tiff": saved(format="TIFF"),
    "avif": AVIF,
    "turned": TURNED,
}


@given(st.sampled_from(sorted(DAMAGEABLE)), st.integers(0, 2**20), st.integers(0, 255))
def test_damaged_pictures_are_refused_or_decoded_and_nothing_else(kind, place, value):
    data = DAMAGEABLE[kind]
    place %= len(data)
    damaged = data[:place] + bytes([value]) + data[place + 1 :]
    try:
        pixels = decode(damaged, read_header(damaged, "it", 1 << 20), "it")
    except SampleError as error:
        assert error.reason in ("bad_image", "bomb")
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


@given(st.binary(max_size=200))
def test_what_is_no_picture_is_refused(data):
    assert reason(data) == "bad_image"


def png_bomb(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [5000, 10_000, 60_000])
def test_a_bomb_is_refused_by_its_header(side):
    assert reason(png_bomb(side), max_pixels=1_000_000) == "bomb"
    with pytest.raises(SampleError, match="it"):
        decode_mask(png_bomb(side), "it", 1_000_000)


def test_a_large_jpeg_is_refused_by_its_header():
    assert reason(JPEG, max_pixels=90 * 60 - 1) == "bomb"
    assert read_header(JPEG, "it", 90 * 60).width == 90


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_a_mask_comes_back_as_the_engine_wrote_it(width, height, seed):
    mask = np.random.default_rng(seed).random((height, width)) < 0.5
    found = decode_mask(mask_png(encode_mask(mask)), "it")
    assert found.dtype == bool
    assert np.array_equal(found, mask)


def test_a_gray_mask_is_what_is_at_least_half_white():
    sink = io.BytesIO()
    Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8)).save(sink, "PNG")
    assert decode_mask(sink.getvalue(), "it").tolist() == [[False, False, True, True]]
