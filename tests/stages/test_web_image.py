"""Any picture of the web, by what Pillow writes and by files whose pixels are known."""

import io
import math
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.formats import ImageError
from stages.pixels import resize
from stages.web_image import WebImage, open_image
from tests.stages.pictures import SCENE, encode, error, smooth
from tests.stages.raw_files import GRAY as GRAY_SAMPLES
from tests.stages.raw_files import GRAY_ALPHA, PALETTE, RGB, RGB_ALPHA, gif, gif_palette, png

PLENTY = 10**6
ORIENTATIONS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright picture is turned so that this orientation turns it back."""


def animate(form: str, **options: object) -> bytes:
    return encode(form, save_all=True, append_images=[Image.new("RGB", (72, 48), "red")], **options)


def oriented(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


LOSSLESS = {
    "png": encode("PNG"),
    "png with alpha": encode("PNG", Image.fromarray(SCENE).convert("RGBA")),
    "apng": animate("PNG"),
    "webp": encode("WEBP", lossless=True),
    "animated webp": animate("WEBP", lossless=True),
    "bmp": encode("BMP"),
    "tiff": encode("TIFF"),
    "lzw tiff": encode("TIFF", compression="tiff_lzw"),
}
LOSSY = {
    "jpeg": encode("JPEG", quality=95),
    "progressive jpeg": encode("JPEG", quality=95, progressive=True),
    "4:1:1 jpeg": encode("JPEG", quality=95, subsampling="4:1:1"),
    "restarting jpeg": encode("JPEG", quality=95, restart_marker_rows=1),
    "cmyk jpeg": encode("JPEG", Image.fromarray(SCENE).convert("CMYK"), quality=95),
    "cmyk tiff": encode("TIFF", Image.fromarray(SCENE).convert("CMYK")),
    "lossy webp": encode("WEBP", quality=90),
    "gif": encode("GIF"),
    "animated gif": animate("GIF"),
    "palette png": encode("PNG", Image.fromarray(SCENE).quantize(256)),
    "palette bmp": encode("BMP", Image.fromarray(SCENE).quantize(256)),
    "avif": encode("AVIF", quality=90),
    "avif with alpha": encode("AVIF", Image.fromarray(SCENE).convert("RGBA"), quality=90),
    "animated avif": animate("AVIF", quality=90),
}
GRAY = {
    "gray jpeg": encode("JPEG", SCENE[..., 0], quality=95),
    "gray png": encode("PNG", SCENE[..., 0]),
    "gray png with alpha": encode("PNG", Image.fromarray(SCENE[..., 0]).convert("LA")),
    "16-bit png": encode("PNG", SCENE[..., 0].astype(np.uint16) * 257),
    "16-bit tiff": encode("TIFF", SCENE[..., 0].astype(np.uint16) * 257),
    "float tiff": encode("TIFF", SCENE[..., 0].astype(np.float32) / 255),
}
FILES = LOSSLESS | LOSSY | GRAY


def reason_of(data: bytes, max_pixels: int = PLENTY) -> str:
    with pytest.raises(ImageError) as caught:
        WebImage(data, max_pixels).decode()
    return caught.value.reason


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats_decode_exactly(name: str) -> None:
    assert np.array_equal(open_image(LOSSLESS[name], PLENTY), SCENE)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_decode_closely(name: str) -> None:
    assert error(open_image(LOSSY[name], PLENTY), SCENE) < 8


@pytest.mark.parametrize("name", GRAY)
def test_gray_formats_decode_to_equal_channels(name: str) -> None:
    pixels = open_image(GRAY[name], PLENTY)
    assert (pixels == pixels[..., :1]).all()
    assert error(pixels[..., 0], SCENE[..., 0]) < 1


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_gives_the_same_upright_picture(form: str, orientation: int) -> None:
    turn = ORIENTATIONS[orientation]
    stored = Image.fromarray(SCENE) if turn is None else Image.fromarray(SCENE).transpose(turn)
    upright = WebImage(encode(form, stored, exif=oriented(orientation)), PLENTY).decode()
    assert (upright.width, upright.height) == (72, 48)
    assert error(upright.pixels, SCENE) < 8


def test_an_unreadable_orientation_is_taken_for_upright() -> None:
    data = encode("JPEG", exif=b"Exif\0\0II*\0garbage")
    assert error(open_image(data, PLENTY), SCENE) < 8
    assert error(open_image(encode("JPEG", exif=oriented(77)), PLENTY), SCENE) < 8


@given(
    st.integers(64, 120),
    st.integers(64, 120),
    st.integers(32, 130),
    st.sampled_from(sorted(ORIENTATIONS)),
    st.sampled_from(["RGB", "L", "CMYK"]),
)
@settings(deadline=None, max_examples=60)
def test_a_jpeg_shrunk_while_decoded_is_never_too_small_and_knows_its_size(
    height: int, width: int, long_side: int, orientation: int, mode: str
) -> None:
    turn = ORIENTATIONS[orientation]
    upright = Image.fromarray(smooth(height, width)).convert(mode)
    stored = upright if turn is None else upright.transpose(turn)
    decoded = WebImage(encode("JPEG", stored, quality=95, exif=oriented(orientation)), PLENTY).decode(long_side)
    assert (decoded.width, decoded.height) == (width, height)
    assert max(decoded.pixels.shape) >= min(long_side, max(width, height))
    expected = resize(np.asarray(upright.convert("RGB")), *decoded.pixels.shape[1::-1])
    assert error(decoded.pixels, expected) < 12


@pytest.mark.parametrize("name", FILES)
def test_the_bomb_guard_judges_by_the_header(name: str) -> None:
    assert reason_of(FILES[name], 48 * 72 - 1) == "bomb"
    assert open_image(FILES[name], 48 * 72).shape == (48, 72, 3)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_ends_early_gives_no_picture(name: str) -> None:
    data = FILES[name]
    # GIF's trailer and the frames after the first are not needed for the first; nor are TIFF's and APNG's extras.
    needed = {"gif": len(data) - 2, "animated gif": len(data) // 3}.get(name, len(data))
    tail = range(max(0, needed - 40), needed)
    for length in [*range(0, needed, max(1, needed // 60)), *tail]:
        assert reason_of(data[:length]) in {"truncated", "corrupt", "not_an_image", "unsupported_format"}, length


# A progressive one may be: what is cut then is its last scans, without which it is whole, if coarser.
@pytest.mark.parametrize("name", ["jpeg", "restarting jpeg", "cmyk jpeg", "gray jpeg"])
def test_a_jpeg_that_was_cut_and_closed_again_is_truncated(name: str) -> None:
    data = FILES[name]
    for share in (0.6, 0.8, 0.95):
        assert reason_of(data[: int(share * len(data))] + b"\xff\xd9") in {"truncated", "corrupt"}


def black_png(height: int, mode: str = "RGB", is_interlaced: bool = False) -> bytes:
    """A black PNG of 9 x 9 pixels that says it has ``height`` rows; chunks and stream are whole."""
    bits, colour, size = {"RGB": (8, 2, 3), "L": (8, 0, 1), "1": (1, 0, 1 / 8), "RGBA": (16, 6, 8)}[mode]
    steps = [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
    passes = [(len(range(x, 9, dx)), len(range(y, 9, dy))) for x, dx, y, dy in steps] if is_interlaced else [(9, 9)]
    stream = bytes(sum(rows * (1 + math.ceil(columns * size)) for columns, rows in passes))
    header = struct.pack(">IIBBBBB", 9, height, bits, colour, 0, 0, is_interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(stream)), (b"IEND", b"")]
    sealed = [struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(sealed)


@pytest.mark.parametrize("is_interlaced", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "RGBA"])
def test_a_png_with_fewer_rows_than_it_says_is_truncated(mode: str, is_interlaced: bool) -> None:
    assert open_image(black_png(9, mode, is_interlaced), PLENTY).shape == (9, 9, 3)
    assert reason_of(black_png(10, mode, is_interlaced)) == "truncated"


@pytest.mark.parametrize("name", ["jpeg", "png", "webp", "avif", "gif", "bmp"])
def test_bytes_after_the_end_do_no_harm(name: str) -> None:
    assert np.array_equal(open_image(FILES[name] + b"\r\n<!-- cached -->", PLENTY), open_image(FILES[name], PLENTY))


def test_padding_inside_a_jpeg_does_no_harm() -> None:
    data = FILES["jpeg"]
    padded = data[:-2] + bytes(7) + data[-2:]
    assert np.array_equal(open_image(padded, PLENTY), open_image(data, PLENTY))


@given(st.sampled_from(sorted(FILES)), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=400)
def test_damage_gives_a_picture_or_an_image_error_and_nothing_else(name: str, rng) -> None:
    data = bytearray(FILES[name])
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(rng.choice([len(data), min(len(data), 200)]))] = rng.randrange(256)
    try:
        assert WebImage(bytes(data), PLENTY).decode().pixels.dtype == np.uint8
    except ImageError as refused:
        assert refused.reason in {"not_an_image", "unsupported_format", "bomb", "truncated", "corrupt"}
        assert "0x7f" not in str(refused), "an address in a message is different in each run"


def test_opened_images_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        open_image(FILES["png"], PLENTY)[0, 0] = 0


# Pixels written by hand.

RNG = np.random.default_rng(0)


def furthest(data: bytes, expected: np.ndarray) -> float:
    pixels = open_image(data, PLENTY)
    expected = expected[..., None].repeat(3, axis=2) if expected.ndim == 2 else expected
    assert pixels.shape == expected.shape
    return float(np.abs(pixels - expected.astype(float)).max())


@pytest.mark.parametrize("key", [None, 7])
def test_what_a_gif_s_first_frame_does_not_cover_is_white(key: int | None) -> None:
    frame = RNG.integers(0, 256, (10, 12), dtype=np.uint8)
    expected = np.full((30, 40, 3), 255)
    expected[5:15, 6:18] = gif_palette()[frame]
    if key is not None:
        expected[5:15, 6:18][frame == key] = 255
    assert furthest(gif((40, 30), frame, 6, 5, key=key), expected) == 0


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("key", [None, 0, 1])
def test_png_samples_of_few_bits_are_scaled_and_their_transparent_one_is_white(bits: int, key: int | None) -> None:
    samples = RNG.integers(0, 2**bits, (20, 30))
    expected = np.rint(samples * 255 / (2**bits - 1))
    extras = [] if key is None else [(b"tRNS", key.to_bytes(2, "big"))]
    if key is not None:
        expected[samples == key] = 255
    assert furthest(png(samples, GRAY_SAMPLES, bits, *extras), expected) == 0
    palette = RNG.integers(0, 256, (2**bits, 3), dtype=np.uint8)
    alpha = RNG.integers(0, 256, 2**bits, dtype=np.uint8)
    shares = alpha[samples][..., None] / 255
    over = palette[samples] * shares + 255 * (1 - shares)
    data = png(samples, PALETTE, bits, (b"PLTE", palette.tobytes()), (b"tRNS", alpha.tobytes()))
    assert furthest(data, over) <= 1


def test_deep_png_samples_are_scaled_and_laid_over_white() -> None:
    samples = RNG.integers(0, 65536, (20, 30, 4))
    alpha = samples[..., 3:] / 65535
    assert furthest(png(samples[..., :3], RGB, 16), samples[..., :3] / 257) <= 1
    assert furthest(png(samples[..., 0], GRAY_SAMPLES, 16), samples[..., 0] / 257) <= 0.51
    assert furthest(png(samples, RGB_ALPHA, 16), samples[..., :3] / 257 * alpha + 255 * (1 - alpha)) <= 2
    over = samples[..., :1] / 257 * alpha + 255 * (1 - alpha)
    assert furthest(png(samples[..., [0, 3]], GRAY_ALPHA, 16), over[..., 0]) <= 2
    expected = samples[..., :3] / 257
    expected[(samples[..., :3] == samples[0, 0, :3]).all(-1)] = 255
    assert expected[0, 0, 0] == 255
    key = b"".join(int(value).to_bytes(2, "big") for value in samples[0, 0, :3])
    assert furthest(png(samples[..., :3], RGB, 16, (b"tRNS", key)), expected) <= 1
    expected = np.where(samples[..., 0] == samples[0, 0, 0], 255, samples[..., 0] / 257)
    assert furthest(png(samples[..., 0], GRAY_SAMPLES, 16, (b"tRNS", key[:2])), expected) <= 0.51


def test_inks_of_a_jpeg_are_read_as_adobe_stores_them() -> None:
    black = np.full(SCENE.shape[:2], 30, np.uint8)
    expected = SCENE * (1 - black[..., None] / 255)
    inverted = np.ascontiguousarray(np.dstack([SCENE, 255 - black]))
    ycck = simplejpeg.encode_jpeg(inverted, 98, "CMYK", "444")
    assert b"Adobe\0d\0\0\0\0\2" in ycck  # luma and chroma of inks
    assert error(open_image(ycck, PLENTY), expected) < 2
    cmyk = encode("JPEG", Image.fromarray(255 - inverted, "CMYK"), quality=98, subsampling=0)
    assert error(open_image(cmyk, PLENTY), expected) < 2


def test_a_jpeg_of_red_green_and_blue_is_not_taken_for_luma_and_chroma() -> None:
    assert error(open_image(encode("JPEG", quality=98, subsampling=0, keep_rgb=True), PLENTY), SCENE) < 2


def test_of_a_jpeg_of_several_pictures_the_first_is_read() -> None:
    data = encode("MPO", save_all=True, append_images=[Image.new("RGB", (72, 48), "red")], quality=95)
    assert error(open_image(data, PLENTY), SCENE) < 3


@pytest.mark.parametrize("share", [2.05, 2.5, 3.9, 4, 7.7])
def test_a_jpeg_shrunk_while_decoded_is_nearly_the_one_shrunk_afterwards(share: float) -> None:
    large = smooth(700, 1000, 3) // 2 + RNG.integers(0, 60, (700, 1000, 3), dtype=np.uint8)
    data = encode("JPEG", large, quality=95, subsampling=0)
    size = round(1000 / share), round(700 / share)
    small = WebImage(data, PLENTY).decode(round(1.5 * size[0])).pixels
    assert small.shape[1] >= 1.5 * size[0] or small.shape[1] == 1000
    assert small.shape[1] <= 500 or share < 3, "none is shrunk while it is decoded"
    expected = resize(open_image(data, PLENTY), *size)
    assert error(resize(small, *size), expected) < 2


# Damage.


def mutated(seed: int, count: int) -> int:
    """How many of so many mutated files gave a picture, in a process that may crash."""
    command = [sys.executable, "-m", "tests.stages.mutated", str(seed), str(count)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)


def test_mutated_files_neither_crash_the_process_nor_fill_its_memory() -> None:
    assert mutated(0, 400) > 20


@pytest.mark.fire
@pytest.mark.parametrize("seed", range(1, 6))
def test_many_mutated_files_neither_crash_the_process_nor_fill_its_memory(seed: int) -> None:
    assert mutated(seed, 5000) > 300


COLOURED = png(np.arange(256).reshape(16, 16), PALETTE, 8, (b"gAMA", b"\0\0\xea\x60"), (b"PLTE", bytes(range(256)) * 3))


@given(st.integers(0, len(COLOURED) - 1), st.integers(1, 255))
@settings(max_examples=200)
def test_a_png_with_one_wrong_byte_is_refused_or_gives_the_right_pixels(place: int, flip: int) -> None:
    damaged = bytearray(COLOURED)
    damaged[place] ^= flip
    try:
        pixels = open_image(bytes(damaged), PLENTY)
    except ImageError:
        return
    assert np.array_equal(pixels, open_image(COLOURED, PLENTY))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def test_what_the_first_frame_of_a_webp_leaves_of_its_canvas_is_white() -> None:
    sink = io.BytesIO()
    Image.new("RGB", (20, 10), (200, 30, 60)).save(sink, "WEBP", lossless=True)

    def three(*values: int) -> bytes:
        return b"".join(value.to_bytes(3, "little") for value in values)

    frame = three(4 // 2, 6 // 2, 20 - 1, 10 - 1, 100) + b"\0" + sink.getvalue()[12:]
    header = _chunk(b"VP8X", b"\x02\0\0\0" + three(40 - 1, 30 - 1)) + _chunk(b"ANIM", bytes(6))
    body = b"WEBP" + header + _chunk(b"ANMF", frame)
    pixels = WebImage(b"RIFF" + struct.pack("<I", len(body)) + body, 10**6).decode().pixels
    expected = np.full((30, 40, 3), 255)
    expected[6:16, 4:24] = (200, 30, 60)
    assert np.array_equal(pixels, expected)
