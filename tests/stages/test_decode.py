import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from benchmarks.decode_pixels import as_jpeg, coded, error_of, exact, img2dataset, ours, sharpness_of, shrunk
from stages.base import Context, Drop, Fail
from stages.decode import Decode, DecodeIn, DecodeOut, DecodeParams
from stages.pixels import Pixels, read_picture, resize
from tests.stages.photos import astronaut


def scene(width: int, height: int, seed: int = 0) -> Pixels:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(form: str, pixels: Pixels, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **options)
    return file.getvalue()


def decode(*originals: bytes, **params: object) -> list[DecodeOut | Drop | Fail]:
    stage = Decode.load(DecodeParams.model_validate(params), Context())
    return stage.process([DecodeIn(key=f"k{number}", original=data) for number, data in enumerate(originals)])


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_a_fit_picture_is_kept_as_jpeg(form: str) -> None:
    pixels = scene(200, 150)
    (kept,) = decode(encode(form, pixels, quality=95))
    assert isinstance(kept, DecodeOut)
    assert (kept.original_width, kept.original_height) == (kept.image.width, kept.image.height) == (200, 150)
    assert kept.image.format == "jpg"
    assert np.abs(read_picture(kept.image).astype(int) - pixels).mean() < 6


def test_metadata_does_not_survive() -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera of someone"
    (kept,) = decode(encode("JPEG", scene(200, 150), exif=exif.tobytes(), comment=b"where and when"))
    assert b"someone" not in kept.image.data
    assert b"where" not in kept.image.data


@given(st.integers(80, 400), st.integers(80, 400), st.integers(48, 500))
@settings(deadline=None, max_examples=50)
def test_the_longer_side_is_at_most_max_side_and_nothing_grows(width: int, height: int, max_side: int) -> None:
    pixels = scene(width, height)
    (kept,) = decode(encode("JPEG", pixels, quality=95), max_side=max_side, min_side=1, max_aspect=100)
    assert isinstance(kept, DecodeOut)
    assert (kept.original_width, kept.original_height) == (width, height)
    assert max(kept.image.width, kept.image.height) == min(max_side, max(width, height))
    shrunk = kept.image.width / width
    assert abs(kept.image.height - height * shrunk) <= max(1, height / width)
    expected = resize(pixels, kept.image.width, kept.image.height)
    assert np.abs(read_picture(kept.image).astype(int) - expected).mean() < 12


def test_null_keeps_every_size() -> None:
    (kept,) = decode(encode("PNG", scene(1500, 1000)), max_side=None)
    assert isinstance(kept, DecodeOut)
    assert (kept.image.width, kept.image.height) == (1500, 1000)


def test_sizes_are_those_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[274] = 6
    (kept,) = decode(encode("JPEG", scene(300, 200), exif=exif.tobytes()), max_side=60)
    assert isinstance(kept, DecodeOut)
    assert (kept.original_width, kept.original_height) == (200, 300)
    assert (kept.image.width, kept.image.height) == (40, 60)


@pytest.mark.parametrize(
    ("size", "params", "reason"),
    [
        ((200, 100), {"min_side": 101}, "too_small"),
        ((200, 100), {"min_side": 100}, None),
        ((400, 100), {"min_side": 1, "max_aspect": 4}, None),
        ((401, 100), {"min_side": 1, "max_aspect": 4}, "extreme_aspect"),
        ((100, 401), {"min_side": 1, "max_aspect": 4}, "extreme_aspect"),
    ],
)
def test_small_and_long_pictures_are_dropped(size: tuple[int, int], params: dict[str, float], reason: str) -> None:
    (result,) = decode(encode("PNG", scene(*size)), **params)
    assert getattr(result, "reason", None) == reason
    if reason:
        assert isinstance(result, Drop)
        assert f"{size[0]} x {size[1]}" in result.message


def test_unfit_pictures_are_dropped_without_decoding_them() -> None:
    data = encode("JPEG", scene(90, 90))
    assert [result.reason for result in decode(data[:-300] + b"\xff\xd9", min_side=91)] == ["too_small"]


def test_flat_pictures_are_dropped() -> None:
    gray = np.full((200, 200, 3), 200, np.uint8)
    dotted = gray.copy()
    dotted[80:120, 80:120] = 20
    assert [getattr(result, "reason", None) for result in decode(encode("PNG", gray), encode("PNG", dotted))] == [
        "flat",
        None,
    ]


def test_broken_files_fail_with_their_class() -> None:
    jpeg = encode("JPEG", scene(300, 200))
    png = encode("PNG", scene(300, 200))
    damaged = bytearray(png)
    damaged[len(png) // 2] ^= 1
    results = decode(jpeg[:-100], b"<html>", b"\0\0\x01\0\x01\0", bytes(damaged), jpeg, max_pixels=300 * 200)
    assert [result.reason for result in results[:-1]] == ["truncated", "not_an_image", "unsupported_format", "corrupt"]
    assert all(isinstance(result, Fail) and result.message for result in results[:-1])
    assert isinstance(results[-1], DecodeOut)
    assert [result.reason for result in decode(jpeg, max_pixels=300 * 200 - 1)] == ["bomb"]


def test_every_reason_given_is_declared() -> None:
    assert {"not_an_image", "unsupported_format", "bomb", "truncated", "corrupt"} < Decode.reasons.keys()
    assert {"too_small", "extreme_aspect", "flat"} < Decode.reasons.keys()


FILES = [
    encode("JPEG", scene(300, 200, 1)),
    encode("PNG", scene(150, 180, 2)),
    encode("WEBP", scene(200, 300, 3)),
    encode("JPEG", scene(300, 200, 4))[:-9],
    b"<svg/>",
    encode("PNG", scene(20, 20, 5)),
]


@given(st.lists(st.sampled_from(FILES), max_size=5), st.lists(st.sampled_from(FILES), max_size=5))
@settings(deadline=None, max_examples=25)
def test_results_do_not_depend_on_batches_or_order(left: list[bytes], right: list[bytes]) -> None:
    assert decode(*left, *right) == decode(*left) + decode(*right)
    assert decode(*reversed(left)) == decode(*left)[::-1]


@pytest.mark.parametrize("factor", [1.5, 2, 3, 4, 6, 8])
def test_a_shrunk_photograph_is_as_near_to_exact_as_img2datasets(factor: float) -> None:
    """And as sharp; below a factor of 4 it is the exact one but for the JPEG it is stored as."""
    original = as_jpeg(Image.fromarray(astronaut()))
    width, height = shrunk(original, factor)
    wanted = exact(original, width, height)
    stored, kept, theirs = (way(original, width, height) for way in (coded, ours, img2dataset))
    assert error_of(kept, wanted) <= error_of(theirs, wanted)
    assert error_of(kept, wanted) <= error_of(stored, wanted) + (0.05 if factor < 4 else 0.3)
    assert 0.97 < sharpness_of(kept) / sharpness_of(wanted) < 1.1


def test_a_smaller_margin_lets_libjpeg_shrink_sooner() -> None:
    original = as_jpeg(Image.fromarray(astronaut()))
    width, height = shrunk(original, 3)
    kept = [decode(original, max_side=max(width, height), min_side=1, jpeg_margin=margin)[0] for margin in (2.0, 1.0)]
    near, fast = (read_picture(each.image) for each in kept if isinstance(each, DecodeOut))
    assert near.shape == fast.shape == (height, width, 3)
    assert 0.5 < error_of(fast, near.astype(np.float32)) < 4
