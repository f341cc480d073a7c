from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Box, Face, Mask, Span, Subject
from stages.base import Context, Fail
from stages.geometry import intersection
from stages.heads import Heads, HeadsIn, HeadsOut, HeadsParams, assign_faces
from stages.masks import encode_mask
from stages.pixels import Pixels, read_picture, resize, write_png
from tests.strategies import boxes

WIDTH, HEIGHT, SCALE = 120, 100, 3
examples = settings(deadline=None, max_examples=60)


def box(x0: float, y0: float, x1: float, y1: float) -> Box:
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


def face(*corners: float) -> Face:
    return Face(box=box(*corners), score=0.99)


def subject(head: str, where: Box | None, mask: Mask | None = None, is_plural: bool = False) -> Subject:
    span = Span(start=0, end=len(head))
    return Subject(phrase=head, span=span, head=head, head_span=span, is_plural=is_plural, box=where, mask=mask)


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Mask:
    pixels = np.zeros((HEIGHT, WIDTH), np.bool_)
    pixels[y0:y1, x0:x1] = True
    return encode_mask(pixels)


MAN, FACE = subject("man", box(10, 5, 70, 95)), face(30, 20, 50, 45)


def record(subjects: Sequence[Subject], faces: Sequence[Face], original: Pixels | None = None) -> HeadsIn:
    pixels = np.zeros((SCALE * HEIGHT, SCALE * WIDTH, 3), np.uint8) if original is None else original
    return HeadsIn(
        original=write_png(pixels).data,
        original_width=SCALE * WIDTH,
        original_height=SCALE * HEIGHT,
        image=write_png(resize(pixels, WIDTH, HEIGHT)),
        faces=tuple(faces),
        subjects=tuple(subjects),
    )


def run(read: HeadsIn, **params: Any) -> tuple[Subject, ...]:
    (out,) = Heads.load(HeadsParams(**params), Context()).process([read])
    assert isinstance(out, HeadsOut)
    return out.subjects


def test_a_person_gets_the_box_and_the_crop_of_its_head() -> None:
    original = np.zeros((SCALE * HEIGHT, SCALE * WIDTH, 3), np.uint8)
    original[45:135, 75:165] = (200, 120, 40)
    (man,) = run(record([MAN], [FACE], original), growth=(0.25, 0.2, 0))
    assert man.head_box and man.head_box.xyxy == pytest.approx((25, 15, 55, 45))
    assert man.head_crop and (man.head_crop.width, man.head_crop.height) == (90, 90)
    assert np.abs(read_picture(man.head_crop).astype(int) - (200, 120, 40)).max() <= 3
    assert (man.box, man.crop) == (MAN.box, None)


def test_a_segmented_head_has_the_fill_around_it() -> None:
    white = np.full((SCALE * HEIGHT, SCALE * WIDTH, 3), 255, np.uint8)
    man = subject("man", MAN.box, rectangle(30, 5, 65, 95))
    (found,) = run(record([man], [FACE], white), growth=(0.5, 0, 0), style="segmented", fill=(0, 0, 0))
    assert found.head_crop
    pixels = read_picture(found.head_crop)
    assert pixels[:, :20].max() <= 12 and pixels[:, 40:].min() >= 243
    (out,) = Heads.load(HeadsParams(style="segmented"), Context()).process([record([MAN], [FACE])])
    assert isinstance(out, Fail) and out.reason == "no_mask" and out.reason in Heads.reasons
    assert run(record([MAN], []), style="segmented") == (MAN,)


def test_only_single_people_get_a_head() -> None:
    others = [subject("dog", MAN.box), subject("men", MAN.box, is_plural=True), subject("man", None)]
    assert run(record(others, [FACE])) == tuple(others)
    (dog, *_) = run(record(others, [FACE]), person_words=("dog",))
    assert dog.head_box
    assert run(record([MAN], [FACE]), person_words=()) == (MAN,)


def test_a_head_too_small_in_the_original_is_left_out() -> None:
    assert run(record([MAN], [FACE]), min_side=200) == (MAN,)
    assert run(record([MAN], [FACE]), growth=(0, 0, 0), min_side=60)[0].head_crop
    assert run(record([MAN], [FACE]), growth=(0, 0, 0), min_side=61) == (MAN,)


def test_of_a_man_with_a_child_each_gets_its_own_face() -> None:
    child_face = face(50, 50, 62, 64)
    child = subject("child", box(45, 45, 68, 90))
    for people in ({0: MAN, 1: child}, {0: child, 1: MAN}):
        for faces in ([FACE, child_face], [child_face, FACE]):
            given_faces = {people[number].head: face for number, face in assign_faces(people, faces).items()}
            assert given_faces == {"man": FACE, "child": child_face}


def test_a_mask_decides_where_boxes_overlap() -> None:
    left = subject("man", box(0, 0, 80, 100), rectangle(0, 0, 50, 100))
    right = subject("woman", box(40, 0, 120, 100), rectangle(50, 0, 120, 100))
    faces = [face(38, 10, 48, 20), face(70, 10, 80, 20)]
    assert assign_faces({0: left, 1: right}, faces) == {0: faces[0], 1: faces[1]}
    assert assign_faces({0: left, 1: right}, faces[1:]) == {1: faces[1]}
    assert assign_faces({0: left}, faces[1:]) == {}


@examples
@given(
    st.lists(boxes(WIDTH, HEIGHT, least=1), max_size=5),
    st.lists(boxes(WIDTH, HEIGHT, least=1), max_size=5),
    st.tuples(*[st.floats(0, 2)] * 3),
)
def test_heads_lie_in_their_people_and_no_face_is_given_twice(
    people: list[Box], faces: list[Box], growth: tuple[float, float, float]
) -> None:
    subjects = [subject("woman", where) for where in people]
    found = [Face(box=where, score=1) for where in faces]
    given_faces = assign_faces(dict(enumerate(subjects)), found)
    assert len({id(face) for face in given_faces.values()}) == len(given_faces) <= min(len(people), len(faces))
    heads = run(record(subjects, found), growth=growth, min_side=1)
    for number, kept in enumerate(heads):
        assert bool(kept.head_box) == bool(kept.head_crop) == (number in given_faces)
        if kept.head_box and kept.box:
            assert intersection(kept.head_box, kept.box) == pytest.approx(kept.head_box.area)


def test_records_do_not_influence_each_other() -> None:
    reads = [record([MAN], [FACE]), record([], [FACE]), record([MAN], []), record([MAN, MAN], [FACE])]
    stage = Heads.load(HeadsParams(), Context())
    together = stage.process(reads)
    assert [stage.process([read])[0] for read in reversed(reads)] == together[::-1]


def test_a_head_found_before_does_not_outlive_its_face() -> None:
    before = run(record([MAN, subject("dog", box(0, 0, 9, 9))], [FACE]), min_side=8)
    assert before[0].head_box and before[0].head_crop
    (man, dog) = run(record(before, []), min_side=8)
    assert (man.head_box, man.head_crop) == (None, None) and dog == before[1]
