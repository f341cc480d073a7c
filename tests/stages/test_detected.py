from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Box, Picture, Span, Subject
from stages.detected import DetectorParams, by_detections, phrasing
from stages.geometry import iou
from stages.grounded import GroundIn, Outcome
from stages.models.detector import Detections

WIDTH, HEIGHT = 200, 100
PARAMS = DetectorParams()


def record(caption: str, *phrases: str, plural: Sequence[str] = ()) -> GroundIn:
    """Subjects in the caption's order; a phrase that is given twice stands there twice."""
    subjects, starts = [], dict.fromkeys(phrases, 0)
    for phrase in phrases:
        start = caption.index(phrase, starts[phrase])
        starts[phrase] = start + 1
        span = Span(start=start, end=start + len(phrase))
        head = Span(start=span.end - len(phrase.split()[-1]), end=span.end)
        subjects.append(
            Subject(phrase=phrase, span=span, head=phrase, head_span=head, is_plural=phrase in plural, score=0.1)
        )
    return GroundIn(
        caption=caption,
        subjects=tuple(subjects),
        dropped_subjects=(),
        annotations=(),
        image=Picture(format="jpg", width=WIDTH, height=HEIGHT, data=b""),
        original_width=WIDTH,
        original_height=HEIGHT,
    )


def at(x0: float, width: float = 20.0) -> tuple[float, ...]:
    return x0, 10.0, x0 + width, 60.0


def ground(record: GroundIn, *rows: tuple[tuple[float, ...], Sequence[float]], **params: object) -> list[Outcome]:
    """By boxes, each with a score for every distinct phrase."""
    boxes = np.array([box for box, _ in rows], float).reshape(-1, 4)
    scores = np.array([mine for _, mine in rows], float).reshape(
        len(rows), -1 if rows else len(phrasing(record.subjects))
    )
    return by_detections(record, Detections(boxes, scores, {}), DetectorParams(**params))


def lefts(outcomes: list[Outcome]) -> list[float | str]:
    return [outcome if isinstance(outcome, str) else outcome.box.x0 for outcome in outcomes if outcome]  # type: ignore[union-attr]


TWO = record("a dog and a cat", "dog", "cat")


def test_each_phrase_gets_its_best_box_with_its_score() -> None:
    dog, cat = ground(TWO, (at(10), (0.5, 0.1)), (at(50), (0.6, 0.1)), (at(90), (0.1, 0.3)))
    assert isinstance(dog, Subject) and isinstance(cat, Subject)
    assert (dog.box, dog.score, dog.mask) == (Box(x0=50, y0=10, x1=70, y1=60), 0.6, None)
    assert (cat.box, cat.score) == (Box(x0=90, y0=10, x1=110, y1=60), 0.3)
    assert (dog.phrase, dog.span) == ("dog", TWO.subjects[0].span)


def test_a_box_that_two_phrases_claim_goes_to_the_better_and_the_other_takes_its_next_best() -> None:
    assert lefts(ground(TWO, (at(10), (0.6, 0.5)), (at(90), (0.1, 0.3)))) == [10, 90]
    assert lefts(ground(TWO, (at(10), (0.6, 0.5)))) == [10, "not_grounded"]
    assert lefts(ground(TWO, (at(10), (0.4, 0.5)))) == ["not_grounded", 10]


def test_so_do_two_boxes_around_the_same_thing_but_not_a_thing_on_another() -> None:
    assert lefts(ground(TWO, (at(10), (0.6, 0.1)), (at(10.5), (0.1, 0.5)))) == [10, "not_grounded"]
    assert lefts(ground(TWO, (at(10), (0.6, 0.1)), (at(10, 14), (0.1, 0.5)))) == [10, 10]
    assert lefts(ground(TWO, (at(10), (0.6, 0.1)), (at(10, 14), (0.1, 0.5)), shared_iou=0.6)) == [10, "not_grounded"]


def test_a_phrase_in_another_may_share_its_box() -> None:
    nested = record("a dog with a hat", "dog with a hat", "dog", "hat")
    assert lefts(ground(nested, (at(10), (0.7, 0.6, 0.1)), (at(14, 8), (0.1, 0.1, 0.4)))) == [10, 10, 14]
    apart = record("a dog with a hat by a dog", "dog with a hat", "hat", "dog")
    assert lefts(ground(apart, (at(10), (0.7, 0.1, 0.6)))) == [10, "low_score", 10]  # its first dog is in there


def test_a_box_counts_above_the_box_threshold_and_is_of_phrases_above_the_text_threshold() -> None:
    nested = record("a dog with a hat", "dog with a hat", "dog")
    assert lefts(ground(nested, (at(10), (0.26, 0.21)))) == [10, 10]
    assert lefts(ground(nested, (at(10), (0.26, 0.2)))) == [10, "low_score"]
    assert lefts(ground(nested, (at(10), (0.25, 0.24)))) == ["low_score", "low_score"]
    assert lefts(ground(nested, (at(10), (0.25, 0.24)), box_threshold=0.2, text_threshold=0.1)) == [10, 10]


def test_subjects_with_one_phrase_get_the_best_boxes_from_left_to_right() -> None:
    men = record("a man, a man and a man", "man", "man", "man")
    rows = [(at(150), [0.5]), (at(10), [0.3]), (at(90), [0.9]), (at(50), [0.6]), (at(51), [0.59])]
    assert lefts(ground(men, *rows)) == [50, 90, 150]
    assert lefts(ground(men, *rows[:2])) == [10, 150, "not_grounded"]


def test_a_plural_phrase_gets_the_box_around_its_boxes_and_their_lowest_score() -> None:
    dogs = record("dogs and a cat", "dogs", "cat", plural=["dogs"])
    rows = [(at(10), [0.5, 0.1]), (at(90), [0.3, 0.1]), (at(150), [0.1, 0.4])]
    pack, cat = ground(dogs, *rows)
    assert isinstance(pack, Subject) and isinstance(cat, Subject) and cat.box
    assert (pack.box, pack.score) == (Box(x0=10, y0=10, x1=110, y1=60), 0.3)
    best, _ = ground(dogs, *rows, plurals="best")
    assert isinstance(best, Subject) and (best.box, best.score) == (Box(x0=10, y0=10, x1=30, y1=60), 0.5)


def test_the_same_plural_twice_is_one_group() -> None:
    dogs = record("dogs by dogs", "dogs", "dogs", plural=["dogs"])
    assert lefts(ground(dogs, (at(10), [0.5]), (at(90), [0.3]))) == [10, "not_grounded"]


def test_case_and_spaces_make_no_other_phrase() -> None:
    assert phrasing(record("Red  Dog by a red dog", "Red  Dog", "red dog").subjects) == {"red dog": [0, 1]}


def test_a_crowd_is_no_subject() -> None:
    rows = [(at(9 * place, 8), (0.5, 0.1)) for place in range(20)]
    assert lefts(ground(TWO, *rows)) == [0, "low_score"]
    assert lefts(ground(TWO, *rows, max_boxes_per_phrase=19)) == ["too_many_boxes", "low_score"]
    rng = np.random.default_rng(0)
    corners = rng.random((900, 2)) * (WIDTH - 9, HEIGHT - 9)
    boxes = np.hstack([corners, corners + 1 + rng.random((900, 2)) * 8])
    crowd = Detections(boxes, rng.uniform(0.3, 1, (900, 2)), {})
    assert by_detections(TWO, crowd, PARAMS) == ["too_many_boxes", "too_many_boxes"]


def test_nothing_found_is_told() -> None:
    assert ground(TWO) == ["low_score", "low_score"]


@pytest.mark.parametrize(
    "box",
    [
        (np.nan, 10, 30, 60),
        (10, 10, 10, 60),
        (30, 10, 10, 60),
        (-50, 10, 0, 60),
        (WIDTH, 0, WIDTH + 5, 9),
        (0, HEIGHT, 5, HEIGHT + 1),
    ],
)
def test_boxes_that_are_empty_or_outside_or_no_numbers_are_not_used(box: tuple[float, ...]) -> None:
    assert lefts(ground(TWO, (box, (0.9, 0.1)))) == ["bad_box", "low_score"]
    assert lefts(ground(TWO, (box, (0.9, 0.1)), (at(10), (0.3, 0.1)))) == [10, "low_score"]


def test_scores_that_are_no_numbers_are_not_used() -> None:
    assert lefts(ground(TWO, (at(10), (np.nan, 0.5)))) == ["bad_box", 10]
    assert lefts(ground(TWO, (at(10), (np.nan, np.nan)))) == ["bad_box", "bad_box"]


def test_a_box_over_the_edge_is_cut_there() -> None:
    dog, _ = ground(TWO, ((-10.0, -1.0, 250.0, 50.0), (0.9, 0.1)))
    assert isinstance(dog, Subject) and dog.box == Box(x0=0, y0=0, x1=WIDTH, y1=50)


def test_unread_phrases_keep_their_reason() -> None:
    found = Detections(np.array([at(10)]), np.array([[0.0, 0.7]]), {0: "phrase_too_long"})
    assert lefts(by_detections(TWO, found, PARAMS)) == ["phrase_too_long", 10]


def test_a_record_without_subjects_has_no_outcomes() -> None:
    assert ground(record("nothing")) == []


@st.composite
def findings(draw: st.DrawFn) -> tuple[GroundIn, Detections]:
    words = draw(st.lists(st.sampled_from(["dog", "dogs", "cat", "hat"]), min_size=1, max_size=6))
    mine = record(" and ".join(words), *words, plural=["dogs"])
    count, phrases = draw(st.integers(0, 10)), len(phrasing(mine.subjects))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    corners = rng.integers(-2, 9, (count, 2)) * 20.0
    boxes = np.hstack([corners, corners + rng.integers(0, 4, (count, 2)) * 20.0])
    return mine, Detections(boxes, rng.choice([0.1, 0.22, 0.3, 0.6, np.nan], (count, phrases)), {})


@given(findings())
@settings(deadline=None)
def test_every_subject_has_an_outcome_and_singular_ones_never_the_same_box(found: tuple[GroundIn, Detections]) -> None:
    mine, detections = found
    outcomes = by_detections(mine, detections, PARAMS)
    assert len(outcomes) == len(mine.subjects)
    grounded = [outcome for outcome in outcomes if isinstance(outcome, Subject)]
    for subject in grounded:
        assert subject.box and 0 <= subject.box.x0 < subject.box.x1 <= WIDTH and subject.score > PARAMS.text_threshold  # type: ignore[operator]
    singles = [subject for subject in grounded if not subject.is_plural]
    for place, one in enumerate(singles):
        for other in singles[:place]:
            assert one.box and other.box
            assert iou(one.box, other.box) <= (PARAMS.nms_iou if one.phrase == other.phrase else PARAMS.shared_iou)


@given(findings(), st.randoms())
@settings(deadline=None)
def test_the_order_of_the_networks_boxes_does_not_matter(found: tuple[GroundIn, Detections], random) -> None:
    mine, detections = found
    order = list(range(len(detections.boxes)))
    random.shuffle(order)
    shuffled = Detections(detections.boxes[order], detections.scores[order], {})
    assert by_detections(mine, shuffled, PARAMS) == by_detections(mine, detections, PARAMS)
