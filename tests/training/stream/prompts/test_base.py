import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.prompt import ImageSegment, TextSegment
from manifests.record import Span
from tests.strategies import spans
from tests.training.stream.make import CAPTION, draw_record, draws, example_of
from training.stream.example import SampleError
from training.stream.geometry import frame
from training.stream.prompts.base import (
    Prompt,
    Reference,
    disjoint,
    draw_drop,
    subject_reference,
    text_only,
    usable_subjects,
    weave,
)

WHOLE = frame((96, 64), (96, 64), draws(), "centre")


def refer(name: str, span: Span | None) -> Reference:
    return Reference(name=name, role="subject", member=None, span=span)


@st.composite
def captions_with_spans(draw: st.DrawFn) -> tuple[str, list[Span]]:
    caption = draw(st.text(min_size=1, max_size=40))
    return caption, draw(st.lists(spans(len(caption)), max_size=6))


@given(captions_with_spans())
def test_of_overlapping_spans_the_later_is_skipped(drawn):
    _, found = drawn
    kept = disjoint(range(len(found)), dict(enumerate(found)))
    for left, right in itertools.pairwise(kept):
        assert found[left].end <= found[right].start
    for number in set(range(len(found))) - set(kept):
        overlapped = [k for k in kept if found[k].start < found[number].end and found[number].start < found[k].end]
        assert any((found[k].start, k) < (found[number].start, number) for k in overlapped)


@given(captions_with_spans(), st.sampled_from(["replace", "before", "feature"]))
def test_text_and_images_are_woven_back_into_the_caption_whatever_its_script(drawn, insertion):
    caption, found = drawn
    kept = disjoint(range(len(found)), dict(enumerate(found)))
    references = [refer(f"subject{number}", found[number]) for number in kept]
    woven = weave(caption, references, insertion)
    assert woven.caption == caption
    assert [image.member for image in woven.images] == [reference.name for reference in references]
    assert [image.phrase for image in woven.images] == [found[number].of(caption) for number in kept]
    prompt = Prompt(interleaved=woven, caption=caption, references=tuple(references))
    assert [woven.segments[place] for place in prompt.places] == list(woven.images)
    is_replaced = insertion == "replace"
    left = "".join(
        c for n, c in enumerate(caption) if not (is_replaced and any(found[k].start <= n < found[k].end for k in kept))
    )
    assert prompt.text == left


def test_an_image_stands_where_its_words_are_or_before_them():
    span = Span(start=2, end=5)
    assert weave("a dog runs", [refer("subject0", span)], "replace").render() == "a <subject0> runs"
    assert weave("a dog runs", [refer("subject0", span)], "before").render() == "a <subject0> dog runs"


def test_what_has_no_words_comes_first_with_its_lead():
    references = [refer("canny", None), refer("subject0", Span(start=0, end=3))]
    assert weave("dog runs", references, "before", "canny ").segments == (
        ImageSegment("canny", "", "before"),
        TextSegment("canny "),
        ImageSegment("subject0", "dog", "before"),
        TextSegment("dog runs"),
    )
    assert [image.insertion for image in weave("dog runs", references, "feature").images] == ["side", "feature"]


def test_words_that_are_not_at_their_span_are_the_samples_error():
    record = draw_record()
    example = example_of(record)
    wrong = type(example)(**{**{n: getattr(example, n) for n in example.__slots__}, "captions": ("x" + CAPTION,)})
    with pytest.raises(SampleError, match="man"):
        usable_subjects(wrong, WHOLE, 0)


def test_subjects_outside_the_crop_are_not_used():
    example = example_of(draw_record())
    assert usable_subjects(example, WHOLE, 0.5) == [0, 1, 2, 3, 4]
    framing = frame((96, 64), (64, 64), draws(), "centre")
    assert (framing.left, framing.resized_width) == (16, 96)
    shares = [max(0, min(n * 19.2 + 19.2, 80) - max(n * 19.2, 16)) / 19.2 for n in range(5)]
    for least in (0.01, 0.2, 0.5, 1.0):
        wanted = [n for n, share in enumerate(shares) if share >= least - 1e-9]
        assert usable_subjects(example, framing, least - 1e-9) == wanted


def test_a_reference_says_where_the_target_shows_its_subject():
    example = example_of(draw_record())
    framing = frame((96, 64), (64, 64), draws(), "centre")
    reference = subject_reference(example, 2, framing, 99, (1, 2, 3))
    assert reference.member == "subject2.jpg"
    assert reference.mask == "subject2.mask.png"
    assert reference.span is not None and reference.span.of(example.caption) == "small dog"
    assert reference.box == pytest.approx((22.4, 16, 41.6, 48))
    assert (reference.side, reference.fill) == (99, (1, 2, 3))


def test_drops_exclude_each_other_and_come_at_their_rates():
    drops = [draw_drop(draws(str(n)), 0.05, 0.1, 0.2) for n in range(20_000)]
    both = sum(drop.text and drop.images for drop in drops) / len(drops)
    assert both == pytest.approx(0.05, abs=0.006)
    assert sum(drop.text for drop in drops) / len(drops) - both == pytest.approx(0.1, abs=0.009)
    assert sum(drop.images for drop in drops) / len(drops) - both == pytest.approx(0.2, abs=0.012)


def test_a_text_only_prompt_may_be_another_text_of_the_picture():
    example = example_of(draw_record())
    assert text_only(example, draws(), 0).text == CAPTION
    texts = [text_only(example, draws(str(n)), 1.0).text for n in range(2000)]
    assert set(texts) == {CAPTION, "another text"}
    assert texts.count(CAPTION) / len(texts) == pytest.approx(0.5, abs=0.05)


def test_an_empty_prompt_has_no_segments():
    prompt = text_only(example_of(draw_record()), draws(), 0, 1.0)
    assert prompt.interleaved.segments == ()
    assert prompt.is_text_dropped and prompt.are_images_dropped
    assert prompt.caption == CAPTION
