from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from manifests.record import Box, DroppedSubject, Picture, Span, Subject
from stages.base import Context, Drop
from stages.geometry import area_share, aspect, containment
from stages.masks import encode_mask
from stages.pixels import write_png
from stages.select import Select, SelectIn, SelectOut, SelectParams
from tests.strategies import boxes, fractions, masks

SIDE = 100
GRAY = write_png(np.full((SIDE, SIDE, 3), 99, np.uint8))
examples = settings(deadline=None, max_examples=50)


def select(**params: Any) -> Select:
    return Select.load(SelectParams(**params), Context())


ANYTHING = {
    "min_score": 0,
    "min_area": 0,
    "max_area": 1,
    "min_side": 0,
    "min_aspect": 1e-9,
    "max_aspect": 1e9,
    "min_mask_share": 0,
    "max_overlap": 1,
    "min_subjects": 0,
    "max_subjects": 99,
}
"""Parameters no subject breaks."""


def subject(x0: float, y0: float, x1: float, y1: float, **fields: Any) -> Subject:
    span = Span(start=0, end=3)
    box = Box(x0=x0, y0=y0, x1=x1, y1=y1)
    return Subject(**{"phrase": "dog", "span": span, "head": "dog", "head_span": span, "box": box, **fields})


def record(*subjects: Subject, image: Picture = GRAY) -> SelectIn:
    return SelectIn(image=image, subjects=subjects, dropped_subjects=())


def reasons(stage: Select, *subjects: Subject) -> list[str]:
    (out,) = stage.process([record(*subjects)])
    assert isinstance(out, SelectOut)
    return [dropped.reason for dropped in out.dropped_subjects]


@st.composite
def some_subjects(draw: st.DrawFn) -> tuple[Subject, ...]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        box = draw(boxes(SIDE, SIDE))
        mask, score = draw(st.none() | masks(SIDE, SIDE)), draw(st.none() | fractions)
        made.append(subject(*box.xyxy, phrase=str(number), mask=mask, score=score))
    return tuple(made)


@examples
@given(some_subjects())
def test_every_subject_is_kept_in_order_or_dropped_with_a_known_reason(subjects: tuple[Subject, ...]) -> None:
    (out,) = select(min_subjects=0).process([record(*subjects)])
    assert isinstance(out, SelectOut)
    assert out.subjects == tuple(s for s in subjects if s in out.subjects)
    assert sorted([s.phrase for s in out.subjects] + [d.phrase for d in out.dropped_subjects]) == [
        s.phrase for s in subjects
    ]
    assert {d.reason for d in out.dropped_subjects} <= set(Select.reasons)
    assert {d.stage for d in out.dropped_subjects} <= {"select"}


@examples
@given(some_subjects())
def test_what_is_kept_obeys_every_rule(subjects: tuple[Subject, ...]) -> None:
    p = SelectParams(min_subjects=0)
    (out,) = Select(p).process([record(*subjects)])
    assert isinstance(out, SelectOut)
    assert len(out.subjects) <= p.max_subjects
    kept = [s.box for s in out.subjects if s.box]
    assert len(kept) == len(out.subjects)
    for box in kept:
        assert p.min_area <= area_share(box, SIDE, SIDE) <= p.max_area
        assert p.min_aspect <= aspect(box) <= p.max_aspect
        assert all(containment(box, other) <= p.max_overlap for other in kept if other is not box)


@examples
@given(some_subjects())
def test_selecting_twice_is_selecting_once(subjects: tuple[Subject, ...]) -> None:
    stage = select(min_subjects=0)
    (once,) = stage.process([record(*subjects)])
    assert isinstance(once, SelectOut)
    assert stage.process([record(*once.subjects)]) == [SelectOut(subjects=once.subjects, dropped_subjects=())]


@examples
@given(some_subjects(), some_subjects())
def test_results_depend_on_no_other_record(one: tuple[Subject, ...], other: tuple[Subject, ...]) -> None:
    stage = select()
    assert stage.process([record(*one), record(*other)]) == [
        *stage.process([record(*one)]),
        *stage.process([record(*other)]),
    ]


HALF_MASK = encode_mask(np.tile(np.arange(SIDE) % 2 == 0, (SIDE, 1)))


@pytest.mark.parametrize(
    ("reason", "rule", "broken", "fits"),
    [
        ("low_score", {"min_score": 0.5}, subject(0, 0, 50, 50, score=0.49), subject(0, 0, 50, 50, score=0.5)),
        ("area_too_small", {"min_area": 0.25}, subject(0, 0, 50, 49), subject(0, 0, 50, 50)),
        ("area_too_large", {"max_area": 0.25}, subject(0, 0, 50, 51), subject(0, 0, 50, 50)),
        ("few_pixels", {"min_pixels": 2500}, subject(0, 0, 50, 49), subject(0, 0, 50, 50)),
        ("side_too_small", {"min_side": 10}, subject(0, 0, 50, 9), subject(0, 0, 50, 10)),
        ("bad_aspect", {"max_aspect": 3}, subject(0, 0, 91, 30), subject(0, 0, 90, 30)),
        ("bad_aspect", {"min_aspect": 0.5}, subject(0, 0, 24, 50), subject(0, 0, 25, 50)),
        ("sparse_mask", {"min_mask_share": 0.6}, subject(0, 0, 100, 100, mask=HALF_MASK), subject(0, 0, 50, 50)),
    ],
)
def test_each_rule_alone_drops_what_breaks_it(
    reason: str, rule: dict[str, float], broken: Subject, fits: Subject
) -> None:
    stage = select(**ANYTHING | rule)
    assert reasons(stage, broken) == [reason]
    assert reasons(stage, fits) == []


def test_subjects_without_score_or_mask_pass_those_rules() -> None:
    assert reasons(select(min_score=1, min_mask_share=1, min_area=0), subject(0, 0, 50, 50)) == []


BIG, SMALL, APART = (0, 0, 60, 60), (1, 1, 56, 56), (61, 61, 99, 99)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        (subject(*SMALL, score=0.9), subject(*BIG, score=0.8), 0),
        (subject(*SMALL, score=0.9), subject(*BIG), 1),
        (subject(*SMALL, score=0.9), subject(*BIG, score=0.9), 1),
        (subject(*BIG, phrase="one"), subject(*BIG, phrase="two"), 0),
    ],
)
def test_of_duplicates_the_higher_score_stays_then_the_larger_then_the_earlier(
    first: Subject, second: Subject, kept: int
) -> None:
    (out,) = select().process([record(first, second)])
    assert isinstance(out, SelectOut)
    assert out.subjects == ((first, second)[kept],)
    assert [d.reason for d in out.dropped_subjects] == ["duplicate_box"]


def test_an_unfit_subject_makes_no_duplicate_of_a_fit_one() -> None:
    assert reasons(select(), subject(*BIG, score=0.1), subject(*SMALL, score=0.9)) == ["low_score"]


def test_too_many_subjects_leave_the_best_in_their_order() -> None:
    low, high, middle = subject(0, 0, 40, 40, score=0.5), subject(50, 0, 90, 40, score=0.9), subject(*APART, score=0.7)
    (out,) = select(max_subjects=2).process([record(low, high, middle)])
    assert isinstance(out, SelectOut)
    assert out.subjects == (high, middle)
    assert [d.reason for d in out.dropped_subjects] == ["over_limit"]


def test_people_stay_before_better_things_where_preferred() -> None:
    man, dog = subject(0, 0, 40, 40, score=0.5, head="man"), subject(50, 0, 90, 40, score=0.9)
    for prefer, kept in (("people", man), ("none", dog)):
        (out,) = select(max_subjects=1, prefer=prefer).process([record(dog, man)])
        assert isinstance(out, SelectOut) and out.subjects == (kept,)


def test_more_boxes_than_there_may_be_drop_the_record() -> None:
    dogs = [subject(0, 0, 40, 40), subject(50, 0, 90, 40), subject(0, 50, 40, 90, head="cat")]
    assert select(max_boxes=2).process([record(*dogs)]) == [Drop("too_many_boxes", "3 subjects, max_boxes is 2")]
    (out,) = select(max_boxes=3).process([record(*dogs)])
    assert isinstance(out, SelectOut) and out.subjects == tuple(dogs)


def test_too_many_subjects_drop_the_record_where_asked() -> None:
    stage = select(max_subjects=1, over_limit="drop_record")
    assert stage.process([record(subject(0, 0, 40, 40), subject(*APART))]) == [
        Drop("too_many_subjects", "2 subjects passed, max_subjects is 1")
    ]


def test_records_with_too_few_subjects_are_dropped_and_say_why() -> None:
    tiny, fit = subject(0, 0, 5, 5), subject(*BIG)
    few, none, empty = select(min_subjects=2).process([record(fit, tiny), record(tiny), record()])
    assert few == Drop("too_few_subjects", "1 of 2 subjects passed, min_subjects is 2; 1 area_too_small")
    assert none == Drop("no_subject_left", "0 of 1 subjects passed, min_subjects is 2; 1 area_too_small")
    assert isinstance(empty, Drop) and empty.reason == "no_subject_left"


def test_what_earlier_stages_dropped_stays_on_the_list() -> None:
    earlier = DroppedSubject(phrase="front", stage="phrases", reason="relational")
    read = SelectIn(image=GRAY, subjects=(subject(*BIG),), dropped_subjects=(earlier,))
    (out,) = select().process([read])
    assert isinstance(out, SelectOut) and out.dropped_subjects == (earlier,)


def test_near_white_is_every_channel_above_nine_tenths() -> None:
    pixels = np.full((SIDE, SIDE, 3), 229, np.uint8)
    pixels[:20] = 230
    pixels[20:40] = (255, 255, 229)
    read = record(subject(*BIG), image=write_png(pixels))
    (dropped,) = select(max_background_white=0.199).process([read])
    assert dropped == Drop("white_background", "0.200 of the image is near white, max_background_white is 0.199")
    assert isinstance(select(max_background_white=0.2).process([read])[0], SelectOut)
    assert isinstance(select().process([read])[0], SelectOut)


@pytest.mark.parametrize(
    "params", [{"min_area": 0.8}, {"min_aspect": 4}, {"min_subjects": 5}, {"max_overlap": 1.1}, {"min_sides": 3}]
)
def test_parameters_that_cannot_be_meant_are_refused(params: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        SelectParams(**params)
