from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from stages.pixels import Pixels, read_picture, resize, write_jpeg, write_png
from tests.stages.pictures import SCENE, error, smooth


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40).map(lambda shape: (*shape, 3))))
@settings(deadline=None, max_examples=40)
def test_png_gives_back_exactly_what_was_written(pixels: Pixels) -> None:
    picture = write_png(pixels)
    assert (picture.height, picture.width) == pixels.shape[:2]
    assert np.array_equal(read_picture(picture), pixels)


@given(arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(deadline=None, max_examples=40)
def test_a_gray_png_reads_as_rgb(gray: Pixels) -> None:
    assert np.array_equal(read_picture(write_png(gray)), np.repeat(gray[..., None], 3, axis=2))


@given(st.integers(32, 90), st.integers(32, 90), st.integers(0, 10**6))
@settings(deadline=None, max_examples=40)
def test_jpeg_gives_back_nearly_what_was_written(height: int, width: int, seed: int) -> None:
    pixels = smooth(height, width, seed)
    picture = write_jpeg(pixels)
    assert (picture.height, picture.width) == (height, width)
    assert error(read_picture(picture), pixels) < 2.5


@pytest.mark.parametrize("write", [write_jpeg, write_png])
def test_encoding_is_deterministic_whatever_the_memory_layout(write: Callable) -> None:
    turned = np.rot90(np.rot90(SCENE, 1).copy(), -1)
    assert not turned.flags.c_contiguous
    assert write(SCENE) == write(SCENE.copy()) == write(turned)


def test_decoded_pictures_are_kept_and_cannot_be_written_to() -> None:
    picture = write_jpeg(SCENE)
    pixels = read_picture(picture)
    assert read_picture(picture) is pixels
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0] = 0


@given(st.integers(1, 150), st.integers(1, 150))
@settings(deadline=None, max_examples=40)
def test_resizing_gives_the_size_asked_for_and_keeps_flat_colour(width: int, height: int) -> None:
    flat = np.full((48, 72, 3), (10, 128, 250), np.uint8)
    resized = resize(flat, width, height)
    assert resized.shape == (height, width, 3)
    assert (resized == flat[0, 0]).all()


@pytest.mark.parametrize("size", [(300, 200), (1000, 700), (599, 800)])
def test_resizing_does_not_depend_on_the_number_of_threads(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (400, 600, 3), dtype=np.uint8)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = resize(pixels, *size)
        cv2.setNumThreads(4)
        assert np.array_equal(resize(pixels, *size), alone)
    finally:
        cv2.setNumThreads(threads)
