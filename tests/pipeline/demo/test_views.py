from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.demo.photos import COFFEE, PHOTOS, Photo
from pipeline.demo.views import LEAST_SIDE, View, make_view, views_of

VIEWS = {photo.name: list(views_of(photo)) for photo in PHOTOS}
CUP = "[a red cup](cup) of espresso with [a silver spoon](spoon)"


@pytest.fixture(params=PHOTOS, ids=lambda photo: photo.name)
def photo(request: pytest.FixtureRequest) -> Photo:
    found: Photo = request.param
    return found


@pytest.fixture
def views(photo: Photo) -> list[View]:
    return VIEWS[photo.name]


def test_phrases_are_the_marked_words_of_a_caption(photo: Photo, views: list[View]) -> None:
    for view in views:
        words = [f"[{view.caption[phrase.start : phrase.end]}](" for phrase in view.phrases]
        assert any(all(word in caption for word in words) for caption in photo.captions)
        assert not set("[]()") & set(view.caption)


def test_phrases_stand_in_reading_order_without_overlap(views: list[View]) -> None:
    for view in views:
        spans = sorted({(phrase.start, phrase.end) for phrase in view.phrases})
        assert view.phrases
        assert list(dict.fromkeys((phrase.start, phrase.end) for phrase in view.phrases)) == spans
        assert all(left[1] <= right[0] for left, right in pairwise(spans))


def test_boxes_are_fractions_and_not_empty(views: list[View]) -> None:
    for view in views:
        for phrase in view.phrases:
            x0, y0, x1, y1 = phrase.box
            assert 0 <= x0 < x1 <= 1
            assert 0 <= y0 < y1 <= 1


def test_views_of_a_photograph_differ_and_stay_inside_it(photo: Photo, views: list[View]) -> None:
    width, height = photo.open().size
    assert len({view.window for view in views}) == len(views)
    for view in views:
        x0, y0, x1, y1 = view.window
        assert 0 <= x0 <= x1 - LEAST_SIDE <= width - LEAST_SIDE
        assert 0 <= y0 <= y1 - LEAST_SIDE <= height - LEAST_SIDE
        assert 0.48 <= view.width / view.height <= 2.08


def test_equal_photographs_give_equal_views(photo: Photo, views: list[View]) -> None:
    assert list(views_of(photo)) == views


def test_a_phrase_with_two_boxes_is_there_twice() -> None:
    both = [view for view in VIEWS["dahlia"] if view.caption.startswith("two orange dahlias")]
    assert both
    for view in both:
        first, second = view.phrases
        assert (first.start, first.end) == (second.start, second.end) == (0, len("two orange dahlias"))
        assert first.box != second.box


@given(
    left=st.integers(0, 172),
    top=st.integers(0, 18),
    right=st.integers(425, 600),
    bottom=st.integers(326, 400),
    long_side=st.integers(200, 1200),
)
@settings(deadline=None, max_examples=50)
def test_boxes_lead_back_to_the_photograph(left: int, top: int, right: int, bottom: int, long_side: int) -> None:
    view = make_view(COFFEE, CUP, (left, top, right, bottom), long_side)
    across, down = right - left, bottom - top
    for phrase, name in zip(view.phrases, ("cup", "spoon"), strict=True):
        x0, y0, x1, y1 = phrase.box
        back = (left + x0 * across, top + y0 * down, left + x1 * across, top + y1 * down)
        assert back == pytest.approx(COFFEE.boxes[name])


@given(left=st.integers(0, 250), top=st.integers(0, 150), long_side=st.integers(64, 900))
@settings(deadline=None, max_examples=25)
def test_a_view_is_drawn_at_its_size_and_enlarged_at_most_threefold(left: int, top: int, long_side: int) -> None:
    view = make_view(COFFEE, CUP, (left, top, left + 300, top + 200), long_side)
    assert view.draw().size == (view.width, view.height)
    assert max(view.width, view.height) <= min(long_side, 900)
