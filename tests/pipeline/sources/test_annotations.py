"""Boxes of GRIT."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Annotation, Span
from pipeline.sources.annotations import clip_box, grit_annotations

CAPTION = "a dog and a café cat"
DOG = [2.0, 5.0, 0.1, 0.2, 0.5, 0.6, 0.9]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=8),
    max_leaves=30,
)


def test_items_become_annotations_with_the_words_they_span() -> None:
    span = Span(start=2, end=5)
    annotation = Annotation(phrase="dog", span=span, x0=0.1, y0=0.2, x1=0.5, y1=0.6, score=0.9)
    assert grit_annotations(CAPTION, [[DOG]]) == (annotation,)


def test_offsets_count_characters_and_not_bytes() -> None:
    (annotation,) = grit_annotations(CAPTION, [[[17.0, 20.0, *DOG[2:]]]])
    assert annotation.phrase == "cat"


def test_an_expression_with_the_box_of_a_chunk_is_left_out_and_any_other_comes_after_the_chunks() -> None:
    longer = [0.0, 9.0, *DOG[2:]]
    elsewhere = [0.0, 9.0, 0.0, 0.0, 0.9, 0.9, 0.5]
    assert [a.phrase for a in grit_annotations(CAPTION, [[DOG], [longer, elsewhere, DOG]])] == ["dog", "a dog and"]
    assert [a.phrase for a in grit_annotations(CAPTION, [[], [longer]])] == ["a dog and"]


@pytest.mark.parametrize(
    "item",
    [
        [5.0, 2.0, *DOG[2:]],
        [2.0, 2.0, *DOG[2:]],
        [-1.0, 5.0, *DOG[2:]],
        [2.0, 99.0, *DOG[2:]],
        [2.5, 5.0, *DOG[2:]],
        [math.nan, 5.0, *DOG[2:]],
        [1.0, 2.0, *DOG[2:]],  # a blank
        [2.0, 5.0, 0.5, 0.2, 0.5, 0.6, 0.9],
        [2.0, 5.0, 10.0, 20.0, 110.0, 120.0, 0.9],  # pixels
        [2.0, 5.0, 0.1, math.nan, 0.5, 0.6, 0.9],
        DOG[:5],
        [],
        None,
        "dog",
    ],
)
def test_items_that_make_no_sense_are_left_out(item: object) -> None:
    assert [annotation.phrase for annotation in grit_annotations(CAPTION, [[item, DOG]])] == ["dog"]


def test_boxes_that_stick_out_by_rounding_are_cut() -> None:
    (annotation,) = grit_annotations(CAPTION, [[[2.0, 5.0, -0.001, 0.2, 1.0000001, 0.6, 0.9]]])
    assert (annotation.x0, annotation.x1) == (0.0, 1.0)


@pytest.mark.parametrize("score", [[], [None], [math.nan]])
def test_a_score_may_be_missing(score: list[float | None]) -> None:
    (annotation,) = grit_annotations(CAPTION, [[[*DOG[:6], *score]]])
    assert annotation.score is None


def test_without_caption_there_is_nothing_to_point_at() -> None:
    assert grit_annotations(None, [[DOG]]) == ()


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=10), st.lists(JSON, max_size=3))
def test_no_data_breaks_it_and_what_comes_out_fits_the_caption(caption: str, lists: list[object]) -> None:
    for annotation in grit_annotations(caption, lists):
        assert annotation.span is not None
        assert annotation.span.of(caption) == annotation.phrase


@given(st.lists(st.floats(-2, 3), min_size=4, max_size=4))
def test_cut_boxes_lie_in_the_picture_and_in_the_box(box: list[float]) -> None:
    cut = clip_box(box, math.inf)
    if cut is not None:
        x0, y0, x1, y1 = cut
        assert 0 <= x0 < x1 <= 1
        assert 0 <= y0 < y1 <= 1
        assert x0 >= box[0] or x0 == 0
        assert y1 <= box[3] or y1 == 1
