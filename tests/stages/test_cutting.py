from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Box, Mask, Picture
from stages.cutting import CutParams, blend, cut, soft_mask, window_of
from stages.geometry import Window
from stages.masks import encode_mask
from stages.pixels import Pixels, read_picture, resize, write_png
from tests.strategies import boxes, masks, pixels, sides

WIDTH, HEIGHT, SCALE = 30, 20, 4
examples = settings(deadline=None, max_examples=50)


@dataclass(frozen=True)
class View:
    """What a stage that cuts reads."""

    original: bytes
    original_width: int
    original_height: int
    image: Picture


def view(original: Pixels) -> View:
    height, width = original.shape[:2]
    return View(write_png(original).data, width, height, write_png(resize(original, WIDTH, HEIGHT)))


PLAIN = view(np.full((SCALE * HEIGHT, SCALE * WIDTH, 3), (10, 200, 30), np.uint8))


@examples
@given(boxes(WIDTH, HEIGHT, least=0.5))
def test_a_window_covers_its_box_on_the_original_and_less_than_a_pixel_more(box: Box) -> None:
    window = window_of(PLAIN, box)
    for found, side in zip(window, box.xyxy, strict=True):
        assert abs(found - SCALE * side) < 1
    assert 0 <= window.x0 < window.x1 <= SCALE * WIDTH and 0 <= window.y0 < window.y1 <= SCALE * HEIGHT


def test_a_box_outside_the_picture_has_no_window() -> None:
    with pytest.raises(ValueError, match="outside"):
        window_of(PLAIN, Box(x0=WIDTH, y0=0, x1=WIDTH + 4, y1=9))


def test_a_masks_place_and_size_do_not_hang_on_its_resolution() -> None:
    window = Window(0, 0, SCALE * WIDTH, SCALE * HEIGHT)
    for factor in (1, 2, SCALE):
        inside = np.zeros((factor * HEIGHT, factor * WIDTH), np.bool_)
        inside[factor * 5 : factor * 15, factor * 10 : factor * 20] = True
        params = CutParams(fill=(250, 0, 250), jpeg_quality=100)
        shown = read_picture(cut(PLAIN, window, params, encode_mask(inside))).astype(int)
        assert np.abs(shown[22:58, 42:78] - (10, 200, 30)).max() <= 6
        shown[18:62, 38:82] = (250, 0, 250)
        assert np.abs(shown - (250, 0, 250)).max() <= 6


@examples
@given(pixels(), st.tuples(*[st.integers(0, 255)] * 3), st.integers(0, 255))
def test_blending_lies_between_fill_and_pixels_and_reaches_both(
    drawn: Pixels, fill: tuple[int, int, int], alpha: int
) -> None:
    height, width = drawn.shape[:2]
    mixed = blend(drawn, np.full((height, width), alpha, np.uint8), fill)
    low, high = np.minimum(drawn, np.array(fill)), np.maximum(drawn, np.array(fill))
    assert ((low <= mixed) & (mixed <= high)).all()
    assert np.array_equal(blend(drawn, np.full((height, width), 255, np.uint8), fill), drawn)
    assert (blend(drawn, np.zeros((height, width), np.uint8), fill) == fill).all()


@examples
@given(masks(), sides, sides)
def test_a_soft_mask_at_its_own_size_is_the_mask(mask: Mask, height: int, width: int) -> None:
    assert set(np.unique(soft_mask(mask, mask.height, mask.width))) <= {0, 255}
    assert soft_mask(mask, height, width).shape == (height, width)
