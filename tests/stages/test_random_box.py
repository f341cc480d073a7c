import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.geometry import area_share, aspect
from stages.random_box import BoxLimits

examples = settings(deadline=None, max_examples=200)
ranges = st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(lambda pair: (min(pair), max(pair)))
aspects = st.tuples(st.floats(-4, 4), st.floats(-4, 4)).map(lambda pair: (2.0 ** min(pair), 2.0 ** max(pair)))
sides = st.integers(1, 2000)


@examples
@given(sides, sides, ranges, aspects, st.integers())
def test_boxes_lie_in_the_picture_and_within_the_limits(
    width: int, height: int, area: tuple[float, float], allowed: tuple[float, float], seed: int
) -> None:
    limits = BoxLimits(width=width, height=height, area=area, aspect=allowed)
    if not limits.can_hold:
        with pytest.raises(ValueError, match="fits"):
            limits.draw(Random(seed))
        return
    box = limits.draw(Random(seed))
    assert 0 <= box.x0 < box.x1 <= width and 0 <= box.y0 < box.y1 <= height
    assert all(isinstance(side, float) for side in box.xyxy)
    assert area[0] * (1 - 1e-6) <= area_share(box, width, height) <= area[1] * (1 + 1e-6)
    assert allowed[0] * (1 - 1e-6) <= aspect(box) <= allowed[1] * (1 + 1e-6)


@examples
@given(sides, sides, ranges, aspects)
def test_only_what_is_too_thin_can_hold_no_box(
    width: int, height: int, area: tuple[float, float], allowed: tuple[float, float]
) -> None:
    """Where none can be drawn, the smallest box of the picture's nearest allowed aspect sticks out."""
    limits = BoxLimits(width=width, height=height, area=area, aspect=allowed)
    nearest = min(max(width / height, allowed[0]), allowed[1])
    least = area[0] * width * height
    sticks_out = max(math.sqrt(least * nearest) / width, math.sqrt(least / nearest) / height)
    assert limits.can_hold == (sticks_out <= 1) or math.isclose(sticks_out, 1, rel_tol=1e-9)


def test_boxes_go_everywhere_and_take_every_size() -> None:
    limits = BoxLimits(width=300, height=200, area=(0.1, 0.5), aspect=(0.5, 2))
    rng = Random(0)
    boxes = [limits.draw(rng) for _ in range(2000)]
    assert min(box.x0 for box in boxes) < 2 and max(box.x1 for box in boxes) > 298
    assert min(box.y0 for box in boxes) < 2 and max(box.y1 for box in boxes) > 198
    shares = sorted(area_share(box, 300, 200) for box in boxes)
    assert abs(shares[1000] - 0.3) < 0.02, "uniform between 0.1 and 0.5"
    wide = sum(aspect(box) > 1 for box in boxes)
    assert 900 < wide < 1250, "as often wide as tall, but for tall ones that stick out of a wide picture"
