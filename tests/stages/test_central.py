from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Box, Mask
from stages.central import central_mask, grow_box, grow_unevenly
from stages.geometry import containment
from stages.masks import BoolArray, encode_mask, pixels_box
from tests.strategies import boxes, masks

HEIGHT, WIDTH = 40, 60
examples = settings(deadline=None, max_examples=60)


def square(y: int, x: int, side: int) -> BoolArray:
    pixels = np.zeros((HEIGHT, WIDTH), np.bool_)
    pixels[y : y + side, x : x + side] = True
    return pixels


def test_the_central_object_is_large_and_in_the_middle() -> None:
    corner, middle, large = square(0, 0, 12), square(14, 24, 12), square(2, 10, 36)
    nothing = np.zeros((HEIGHT, WIDTH), np.bool_)

    def central(*candidates: BoolArray) -> int | None:
        found = central_mask([encode_mask(pixels) for pixels in candidates])
        return next((n for n, pixels in enumerate(candidates) if found is not None and (pixels == found).all()), None)

    assert central(corner, middle) == 1 and central(middle, corner) == 0
    assert central(corner, middle, large) == 2
    assert central(middle, middle.copy()) == 0
    assert central(nothing, corner) == 1
    assert central(nothing) is None and central() is None


@examples
@given(masks(HEIGHT, WIDTH), st.floats(0, 30), st.integers())
def test_an_uneven_margin_keeps_the_object_and_stays_within_reach(mask: Mask, reach: float, seed: int) -> None:
    pixels = central_mask([mask])
    if pixels is None:
        return
    box = pixels_box(pixels)
    assert box
    grown = grow_unevenly(pixels, box, reach, Random(seed))
    assert grown.shape == pixels.shape and (grown | ~pixels).all()
    ys, xs = np.nonzero(pixels)
    for y, x in np.argwhere(grown & ~pixels)[::7]:
        assert np.hypot(ys - y, xs - x).min() <= reach + 1e-3
    assert np.array_equal(grow_unevenly(pixels, box, 0, Random(seed)), pixels)


def test_margins_are_uneven_and_differ() -> None:
    pixels = square(14, 24, 12)
    object_box = Box(x0=24, y0=14, x1=36, y1=26)
    grown = [grow_unevenly(pixels, object_box, 12, Random(seed)) for seed in range(8)]
    assert len({one.tobytes() for one in grown}) == 8
    hulls = [box.xyxy for box in map(pixels_box, grown) if box]
    margins = np.abs(np.array(hulls) - (24, 14, 36, 26))
    assert (margins.max(axis=1) > margins.min(axis=1)).sum() > 4


@examples
@given(boxes(WIDTH, HEIGHT, least=0.5), st.floats(0, 1), st.integers())
def test_a_grown_box_holds_the_box_inside_the_picture(box: Box, share: float, seed: int) -> None:
    grown = grow_box(box, share, (HEIGHT, WIDTH), Random(seed))
    assert containment(box, grown) > 1 - 1e-9
    assert grown.x0 >= 0 and grown.y0 >= 0 and grown.x1 <= WIDTH and grown.y1 <= HEIGHT
    assert grown.x1 - grown.x0 <= (box.x1 - box.x0) * (1 + 2 * share) + 1e-6
