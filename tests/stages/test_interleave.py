import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.prompt import ImageSegment, Insertion, InterleavedPrompt
from manifests.record import Control, Span, Subject
from stages.base import Context, Drop, Fail
from stages.interleave import Interleave, InterleaveIn, InterleaveOut, InterleaveParams, choose, interleave
from stages.pixels import write_png
from tests.strategies import captions, insertions, spans

examples = settings(deadline=None, max_examples=200)
PICTURE = write_png(np.zeros((1, 1, 3), np.uint8))
CAPTION = "a brown dog with a red ball on a scooter"


def subject(phrase: str, head: str, caption: str = CAPTION) -> Subject:
    start = caption.index(phrase)
    head_start = caption.index(head, start)
    return Subject(
        phrase=phrase,
        span=Span(start=start, end=start + len(phrase)),
        head=head,
        head_span=Span(start=head_start, end=head_start + len(head)),
        crop=PICTURE,
    )


DOG, BALL, SCOOTER = subject("brown dog", "dog"), subject("red ball", "ball"), subject("scooter", "scooter")
DOG_WITH_BALL = subject("brown dog with a red ball", "dog")
CANNY = Control(kind="canny", picture=PICTURE)


def run(*subjects: Subject, controls: tuple[Control, ...] = (), **params: Any) -> InterleaveOut | Drop | Fail:
    stage = Interleave.load(InterleaveParams(**params), Context())
    (out,) = stage.process([InterleaveIn(caption=CAPTION, subjects=subjects, controls=controls)])
    return out


def prompt_of(*subjects: Subject, **params: Any) -> InterleavedPrompt:
    out = run(*subjects, **params)
    assert isinstance(out, InterleaveOut)
    return out.prompt


@st.composite
def captions_and_spans(draw: st.DrawFn) -> tuple[str, list[Span]]:
    caption = draw(captions)
    return caption, draw(st.lists(spans(len(caption)), max_size=6))


@examples
@given(captions_and_spans(), insertions)
def test_segments_concatenate_to_the_caption(drawn: tuple[str, list[Span]], insertion: Insertion) -> None:
    caption, found = drawn
    prompt = interleave(caption, choose(found), insertion)
    assert prompt.caption == caption
    for image in prompt.images:
        assert image.phrase == found[int(image.member.removeprefix("subject"))].of(caption)
    assert InterleavedPrompt.from_json(prompt.to_json()) == prompt


@examples
@given(captions_and_spans())
def test_chosen_spans_are_apart_in_order_and_every_other_overlaps_a_better_one(drawn: tuple[str, list[Span]]) -> None:
    _, found = drawn
    chosen = choose(found)
    assert all(found[number] == span for number, span in chosen)
    assert all(left.end <= right.start for (_, left), (_, right) in itertools.pairwise(chosen))
    for number in set(range(len(found))) - {number for number, _ in chosen}:
        span = found[number]
        over = [(n, other) for n, other in chosen if other.start < span.end and span.start < other.end]
        assert any((-len_of(o), o.start, n) < (-len_of(span), span.start, number) for n, o in over)


def len_of(span: Span) -> int:
    return span.end - span.start


@pytest.mark.parametrize(
    ("insertion", "line"),
    [
        ("replace", "a <subject0> with a <subject1> on a <subject2>"),
        ("before", "a <subject0> brown dog with a <subject1> red ball on a <subject2> scooter"),
        ("feature", "a <subject0: brown dog> with a <subject1: red ball> on a <subject2: scooter>"),
        ("side", "<subject0> <subject1> <subject2> a brown dog with a red ball on a scooter"),
    ],
)
def test_subjects_enter_as_the_insertion_says(insertion: Insertion, line: str) -> None:
    assert prompt_of(DOG, BALL, SCOOTER, insertion=insertion).render() == line


def test_the_image_may_go_with_the_head_noun_alone() -> None:
    line = "a brown <subject0: dog> with a red <subject1: ball> on a scooter"
    assert prompt_of(DOG, BALL, insertion="feature", words="head").render() == line


def test_members_carry_the_subjects_place_in_the_record() -> None:
    assert prompt_of(SCOOTER, DOG).render() == "a <subject1> with a red ball on a <subject0>"


def test_of_nested_phrases_the_longer_enters() -> None:
    assert prompt_of(BALL, DOG_WITH_BALL, SCOOTER).render() == "a <subject1> on a <subject2>"


def test_heads_of_nested_phrases_both_enter() -> None:
    assert (
        prompt_of(BALL, DOG_WITH_BALL, words="head").render() == "a brown <subject1> with a red <subject0> on a scooter"
    )


def test_of_two_subjects_with_the_same_words_the_first_enters() -> None:
    assert [image.member for image in prompt_of(DOG, DOG).images] == ["subject0"]


def test_the_first_images_in_reading_order_stay() -> None:
    assert prompt_of(SCOOTER, BALL, DOG, max_images=2).render() == "a <subject2> with a <subject1> on a scooter"


@pytest.mark.parametrize(
    ("insertion", "leading"), [("replace", "before"), ("before", "before"), ("feature", "side"), ("side", "side")]
)
def test_controls_and_the_whole_picture_come_first(insertion: Insertion, leading: Insertion) -> None:
    prompt = prompt_of(DOG, insertion=insertion, control="canny", whole_image=True, controls=(CANNY,))
    assert prompt.segments[:2] == (ImageSegment("image", "", leading), ImageSegment("canny", "", leading))
    assert prompt.caption == CAPTION
    assert prompt.images[2].member == "subject0"


def test_a_control_that_is_not_there_fails_with_the_remedy() -> None:
    out = run(DOG, control="depth", controls=(CANNY,))
    assert out == Fail("no_control", "the record has no depth; put a control node before interleave")


def test_a_prompt_without_image_is_dropped_unless_allowed() -> None:
    assert run() == Drop("no_image_segment", "0 subjects, max_images is 4")
    assert run(DOG, max_images=0) == Drop("no_image_segment", "1 subjects, max_images is 0")
    assert prompt_of(allow_text_only=True).render() == CAPTION
    assert prompt_of(whole_image=True).render() == f"<image> {CAPTION}"


def test_a_subject_of_another_caption_is_refused() -> None:
    other = subject("dog", "dog", "my dog")
    with pytest.raises(ValueError, match="'dog': its span holds 'row'; was the caption changed after phrases"):
        run(other)


@examples
@given(captions_and_spans(), captions_and_spans(), insertions)
def test_results_depend_on_no_other_record(
    one: tuple[str, list[Span]], other: tuple[str, list[Span]], insertion: Insertion
) -> None:
    stage = Interleave.load(InterleaveParams(insertion=insertion, allow_text_only=True), Context())
    reads = [
        InterleaveIn(
            caption=caption,
            subjects=tuple(Subject(phrase=s.of(caption), span=s, head="x", head_span=s) for s in found),
            controls=(),
        )
        for caption, found in (one, other)
    ]
    assert stage.process(reads) == [stage.process([read])[0] for read in reads]


def test_subjects_without_a_crop_stay_out_of_the_prompt_and_take_no_place_in_it() -> None:
    uncut = dataclasses.replace(DOG_WITH_BALL, crop=None)
    assert prompt_of(uncut, BALL, SCOOTER, max_images=2).render() == "a brown dog with a <subject1> on a <subject2>"
    assert run(uncut) == Drop("no_image_segment", "1 subjects, max_images is 4")
