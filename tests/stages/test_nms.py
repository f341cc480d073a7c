import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.nms import suppress

examples = settings(deadline=None, max_examples=100)


@st.composite
def scored_boxes(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Up to 30 boxes on a small grid, with few different scores."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, 30))
    low = rng.integers(0, 20, (count, 2))
    boxes = np.concatenate([low, low + rng.integers(1, 15, (count, 2))], axis=1).astype(np.float32)
    return boxes, rng.integers(0, 8, count).astype(np.float32) / 8


def overlap(a: np.ndarray, b: np.ndarray, over: str) -> float:
    """By counting pixels."""
    x, y = (set(range(*map(int, a[side::2]))) & set(range(*map(int, b[side::2]))) for side in (0, 1))
    shared = len(x) * len(y)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared if over == "union" else min(areas))


@examples
@given(scored_boxes(), st.sampled_from(["union", "smaller"]), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]))
def test_a_box_stays_if_and_only_if_no_better_one_that_stays_overlaps_it(
    given_boxes: tuple[np.ndarray, np.ndarray], over: str, threshold: float
) -> None:
    boxes, scores = given_boxes
    kept = suppress(boxes, scores, threshold, over)  # type: ignore[arg-type]
    expected: list[int] = []
    for number in sorted(range(len(boxes)), key=lambda n: (-scores[n], n)):
        if all(overlap(boxes[number], boxes[other], over) <= threshold for other in expected):
            expected.append(number)
    assert kept.tolist() == expected


def test_of_equal_boxes_one_stays() -> None:
    boxes = np.array([(0, 0, 9, 9)] * 4)
    assert suppress(boxes, np.array([0.1, 0.7, 0.7, 0.2]), 0.5).tolist() == [1]


def test_a_small_box_in_a_large_one_goes_only_by_its_own_area() -> None:
    boxes, scores = np.array([(0, 0, 100, 100), (40, 40, 50, 50)]), np.array([0.9, 0.8])
    assert suppress(boxes, scores, 0.7).tolist() == [0, 1]
    assert suppress(boxes, scores, 0.7, "smaller").tolist() == [0]


@pytest.mark.parametrize("over", ["union", "smaller"])
def test_thousands_of_boxes_and_none(over: str) -> None:
    rng = np.random.default_rng(0)
    low = rng.random((3000, 2)) * 100
    boxes = np.concatenate([low, low + 10], axis=1)
    assert 10 < len(suppress(boxes, rng.random(3000), 0.3, over)) < 1000  # type: ignore[arg-type]
    assert len(suppress(np.empty((0, 4)), np.empty(0), 0.3, over)) == 0  # type: ignore[arg-type]
