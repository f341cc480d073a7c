import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Box
from stages.geometry import area_share, aspect, clip, containment, grow, intersection, iou, pixel_hull, scale
from tests.strategies import boxes

examples = settings(deadline=None, max_examples=100)
sizes = st.integers(1, 3000)
spilling = boxes(spill=50)


def box(x0: float, y0: float, x1: float, y1: float) -> Box:
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


@examples
@given(spilling)
def test_a_clipped_box_lies_inside_the_picture_and_in_the_box(b: Box) -> None:
    inside = clip(b, 100, 100)
    if inside is None:
        assert intersection(b, box(0, 0, 100, 100)) == 0
    else:
        assert 0 <= inside.x0 < inside.x1 <= 100 and 0 <= inside.y0 < inside.y1 <= 100
        assert intersection(inside, b) == pytest.approx(inside.area)


@examples
@given(boxes())
def test_clipping_leaves_a_box_inside_alone(b: Box) -> None:
    assert clip(b, 100, 100) == b


@examples
@given(boxes(640, 480), sizes, sizes)
def test_scaling_there_and_back_moves_no_edge_by_a_pixel(b: Box, width: int, height: int) -> None:
    x, y = width / 640, height / 480
    back = scale(scale(b, x, y), 1 / x, 1 / y)
    assert back.xyxy == pytest.approx(b.xyxy, abs=1e-6)


@examples
@given(st.data(), sizes, sizes)
def test_whole_pixel_boxes_survive_scaling_there_and_back(data: st.DataObject, width: int, height: int) -> None:
    xs, ys = (sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True))) for n in (640, 480))
    x, y = width / 640, height / 480
    there = scale(box(xs[0], ys[0], xs[1], ys[1]), x, y)
    assert pixel_hull(scale(there, 1 / x, 1 / y), 640, 480) == (xs[0], ys[0], xs[1], ys[1])


@examples
@given(spilling, spilling)
def test_overlaps_are_symmetric_and_between_0_and_1(a: Box, b: Box) -> None:
    for overlap in (iou, containment):
        assert overlap(a, b) == overlap(b, a)
        assert 0 <= overlap(a, b) <= 1
    assert iou(a, b) <= containment(a, b)
    assert intersection(a, b) <= min(a.area, b.area) + 1e-9


@examples
@given(spilling)
def test_a_box_overlaps_itself_wholly(b: Box) -> None:
    assert iou(b, b) == pytest.approx(1)
    assert containment(b, b) == pytest.approx(1)


def test_overlaps_of_known_boxes() -> None:
    a, b = box(0, 0, 4, 4), box(2, 2, 4, 6)
    assert intersection(a, b) == 4
    assert iou(a, b) == pytest.approx(4 / 20)
    assert containment(a, b) == pytest.approx(4 / 8)


def test_boxes_that_touch_share_nothing() -> None:
    assert intersection(box(0, 0, 2, 2), box(2, 0, 4, 2)) == 0


@examples
@given(spilling, st.integers(1, 100), st.integers(1, 100))
def test_the_pixel_hull_holds_the_box_and_lies_in_the_picture(b: Box, width: int, height: int) -> None:
    inside = clip(b, width, height)
    if inside is None:
        with pytest.raises(ValueError, match="lies outside"):
            pixel_hull(b, width, height)
        return
    hull = pixel_hull(b, width, height)
    assert 0 <= hull.x0 < hull.x1 <= width and 0 <= hull.y0 < hull.y1 <= height
    assert hull.x0 <= inside.x0 + 1e-3 and inside.x1 <= hull.x1 + 1e-3
    assert hull.y0 <= inside.y0 + 1e-3 and inside.y1 <= hull.y1 + 1e-3
    assert hull.width < inside.x1 - inside.x0 + 2 and hull.height < inside.y1 - inside.y0 + 2


def test_a_sliver_at_the_edge_has_a_hull_of_one_pixel() -> None:
    assert pixel_hull(box(9.9999, 3, 10, 4), 10, 10) == (9, 3, 10, 4)


@examples
@given(boxes(), st.floats(0, 2))
def test_a_grown_box_holds_the_box_around_the_same_centre(b: Box, share: float) -> None:
    grown = grow(b, share)
    assert intersection(grown, b) == pytest.approx(b.area)
    assert (grown.x0 + grown.x1, grown.y0 + grown.y1) == pytest.approx((b.x0 + b.x1, b.y0 + b.y1))
    assert aspect(grown) == pytest.approx(aspect(b))


def test_area_share_and_aspect() -> None:
    b = box(10, 10, 30, 50)
    assert area_share(b, 100, 80) == pytest.approx(0.1)
    assert aspect(b) == pytest.approx(0.5)
