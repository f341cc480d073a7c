import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manifests.record import Box
from stages.geometry import containment, iou
from stages.nms import Floats, overlaps, suppress, suppress_labelled
from tests.strategies import boxes

SCORES = st.floats(0, 1)


def array(some: list[Box]) -> Floats:
    return np.array([box.xyxy for box in some]).reshape(-1, 4)


scored = st.lists(st.tuples(boxes(least=1), SCORES, st.integers(0, 2)), max_size=12)
thresholds = st.floats(0, 1)


@given(st.lists(boxes(least=1), min_size=1, max_size=6))
def test_overlaps_are_those_of_geometry(some: list[Box]) -> None:
    assert np.allclose(overlaps(array(some)[0], array(some)), [iou(some[0], box) for box in some])
    assert np.allclose(overlaps(array(some)[0], array(some), "smaller"), [containment(some[0], box) for box in some])


@given(scored, thresholds)
def test_what_stays_overlaps_little_and_what_goes_overlaps_something_better(
    found: list[tuple[Box, float, int]], threshold: float
) -> None:
    all_boxes, scores = array([box for box, _, _ in found]), np.array([score for _, score, _ in found])
    kept = suppress(all_boxes, scores, threshold).tolist()
    assert scores[kept].tolist() == sorted(scores[kept].tolist(), reverse=True)
    for place, one in enumerate(kept):
        assert (overlaps(all_boxes[one], all_boxes[kept[place + 1 :]]) <= threshold).all()
    for gone in set(range(len(found))) - set(kept):
        better = [one for one in kept if scores[one] >= scores[gone]]
        assert (overlaps(all_boxes[gone], all_boxes[better]) > threshold).any()


@given(scored, thresholds)
def test_one_label_is_suppressed_as_without_labels_whatever_the_order(
    found: list[tuple[Box, float, int]], threshold: float
) -> None:
    apart = list({score: (box, score) for box, score, _ in found}.values())
    all_boxes, scores = array([box for box, _ in apart]), np.array([score for _, score in apart])
    labels, limits = np.zeros(len(apart), np.int64), np.full((1, 1), threshold)
    kept = suppress_labelled(all_boxes, scores, labels, limits)
    assert kept.tolist() == suppress(all_boxes, scores, threshold).tolist()
    turned = suppress_labelled(all_boxes[::-1], scores[::-1], labels, limits)
    assert (len(apart) - 1 - turned).tolist() == kept.tolist()


@given(scored)
def test_labels_that_may_share_a_place_never_suppress_each_other(found: list[tuple[Box, float, int]]) -> None:
    all_boxes, scores = array([box for box, _, _ in found]), np.array([score for _, score, _ in found])
    labels = np.array([label for _, _, label in found], np.int64)
    together = suppress_labelled(all_boxes, scores, labels, np.where(np.eye(3, dtype=bool), 0.5, 1.0))
    for label in range(3):
        mine = np.flatnonzero(labels == label)
        alone = mine[suppress_labelled(all_boxes[mine], scores[mine], labels[mine], np.full((3, 3), 0.5))]
        assert [row for row in together.tolist() if labels[row] == label] == alone.tolist()
