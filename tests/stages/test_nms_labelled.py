import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from manifests.record import Box
from stages.geometry import iou
from stages.nms import Floats, Ints, overlaps, suppress_labelled

LABELS = 3


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[Floats, Floats, Ints]:
    count = draw(st.integers(0, 12))
    corners = draw(arrays(np.float64, (count, 2), elements=st.integers(0, 8)))
    sizes = draw(arrays(np.float64, (count, 2), elements=st.integers(1, 8)))
    scores = draw(arrays(np.float64, count, elements=st.sampled_from([0.1, 0.3, 0.5, 0.9])))
    return np.hstack([corners, corners + sizes]), scores, draw(arrays(np.int64, count, elements=st.integers(0, 2)))


def tables() -> st.SearchStrategy[Floats]:
    half = arrays(np.float64, (LABELS, LABELS), elements=st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    return half.map(lambda table: np.maximum(table, table.T))


def as_box(row: Floats) -> Box:
    x0, y0, x1, y1 = row.tolist()
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


@given(scored_boxes())
def test_overlaps_are_those_of_boxes_in_the_record(found: tuple[Floats, Floats, Ints]) -> None:
    boxes, _, _ = found
    for box in boxes:
        assert overlaps(box, boxes) == pytest.approx([iou(as_box(box), as_box(other)) for other in boxes])


@given(scored_boxes(), tables())
def test_what_stays_does_not_overlap_and_what_goes_overlaps_something_no_worse(
    found: tuple[Floats, Floats, Ints], limits: Floats
) -> None:
    boxes, scores, labels = found
    kept = suppress_labelled(boxes, scores, labels, limits)
    assert len(set(kept)) == len(kept)
    for place, one in enumerate(kept):
        same = overlaps(boxes[one], boxes[kept[:place]]) > limits[labels[one], labels[kept[:place]]]
        assert not same.any()
    for gone in set(range(len(boxes))) - set(kept):
        better = kept[scores[kept] >= scores[gone]]
        assert (overlaps(boxes[gone], boxes[better]) > limits[labels[gone], labels[better]]).any()


@given(scored_boxes(), tables(), st.randoms())
def test_the_order_of_the_boxes_does_not_matter(found: tuple[Floats, Floats, Ints], limits: Floats, random) -> None:
    boxes, scores, labels = found
    shuffled = list(range(len(boxes)))
    random.shuffle(shuffled)
    kept = suppress_labelled(boxes, scores, labels, limits)
    other = suppress_labelled(boxes[shuffled], scores[shuffled], labels[shuffled], limits)
    rows = [[*boxes[row], scores[row], labels[row]] for row in kept]
    assert rows == [[*boxes[shuffled[row]], scores[shuffled[row]], labels[shuffled[row]]] for row in other]


@given(scored_boxes(), tables())
def test_best_come_first_and_doing_it_again_changes_nothing(found: tuple[Floats, Floats, Ints], limits: Floats) -> None:
    boxes, scores, labels = found
    kept = suppress_labelled(boxes, scores, labels, limits)
    assert (np.diff(scores[kept]) <= 0).all()
    assert suppress_labelled(boxes[kept], scores[kept], labels[kept], limits).tolist() == list(range(len(kept)))


def test_a_limit_of_one_keeps_even_equal_boxes_and_a_lower_one_keeps_the_better() -> None:
    boxes, scores = np.array([[0.0, 0, 4, 4], [0, 0, 4, 4]]), np.array([0.4, 0.6])
    labels = np.array([0, 1])
    assert suppress_labelled(boxes, scores, labels, np.ones((2, 2))).tolist() == [1, 0]
    assert suppress_labelled(boxes, scores, labels, np.full((2, 2), 0.9)).tolist() == [1]


def test_900_boxes_of_ten_phrases_are_no_matter() -> None:
    rng = np.random.default_rng(0)
    corners = rng.random((9000, 2)) * 1000
    boxes = np.hstack([corners, corners + 1 + rng.random((9000, 2)) * 400])
    kept = suppress_labelled(boxes, rng.random(9000), rng.integers(0, 10, 9000), np.full((10, 10), 0.5))
    assert 10 < len(kept) < 9000
