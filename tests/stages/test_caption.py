import re
import unicodedata
from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import Annotation, Span
from stages.base import Context, Drop
from stages.caption import Caption, CaptionIn, CaptionOut, CaptionParams, clean

ANY_TEXT = st.text(st.characters(exclude_characters="&")) | st.text(
    st.sampled_from(
        "a é e\u0301\u0323\u200b\u200d\ufeff\t\n\u00a0\u3000\x00\x1f\ud800한\u1112\u1161\u11ab\u0f71\u0f73\u212b"
    )
)
WORDS = ["dog", "a", "b", ",", "!", "é", "e\u0301", "\u1112\u1161\u11ab", "\u212b", "犬", "👩\u200d🚀"]
MARKUP = ["&amp;", "&#39;", "&#x1F415;", "&bogus;", "&lt", "&"]
NO_WORDS = [" ", "  ", "\t\n", "&nbsp;", "\x00", "\u200b", "&shy;"]
PIECES = st.sampled_from([*WORDS, *MARKUP, *NO_WORDS])


def caption_of(text: str | None, *annotations: Annotation, params: CaptionParams | None = None) -> CaptionOut | Drop:
    stage = Caption.load(params or CaptionParams(min_chars=1), Context())
    (result,) = stage.process([CaptionIn(alt_text=text, annotations=annotations)])
    assert isinstance(result, CaptionOut | Drop)
    return result


def annotation(span: Span | None) -> Annotation:
    return Annotation(phrase="", span=span, x0=0, y0=0, x1=1, y1=1)


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("  A dog\t\r\n on  the\u00a0beach \n", "A dog on the beach"),
        ("Tom &amp; Jerry&#39;s &quot;house&quot; &#x1F415;", 'Tom & Jerry\'s "house" 🐕'),
        ("R&D; &notit; &amp &copy=1 &amp;lt;", "R&D; &notit; &amp &copy=1 &lt;"),
        ("a\x00b\x1bc\u200bd\ufeffe\u00adf\u202eg", "abcdefg"),
        ("cafe\u0301 A\u030a \u212b", "café Å Å"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"),
        ("e\u200b\u0301", "é"),
        ("x &shy;&nbsp; y", "x y"),
        (
            "👩\u200d🚀 می\u200cخواهم 🏴\U000e0067\U000e0062\U000e007f",
            "👩\u200d🚀 می\u200cخواهم 🏴\U000e0067\U000e0062\U000e007f",
        ),
        ("lone \ud800 surrogate", "lone surrogate"),
    ],
)
def test_text_is_cleaned(text: str, caption: str) -> None:
    assert clean(text).text == caption


@given(ANY_TEXT)
@settings(deadline=None, max_examples=300)
def test_cleaning_is_what_it_says_on_the_whole_text(text: str) -> None:
    visible = "".join(
        char
        for char in text
        if char.isspace()
        or unicodedata.category(char) not in ("Cc", "Cf", "Cs")
        or char in "\u200c\u200d"
        or "\U000e0020" <= char <= "\U000e007f"
    )
    assert clean(text).text == re.sub(r"\s+", " ", unicodedata.normalize("NFC", visible)).strip()


@given(ANY_TEXT)
@settings(deadline=None)
def test_a_clean_text_stays_as_it_is_and_can_be_stored(text: str) -> None:
    caption = clean(text).text
    assert clean(caption).text == caption
    assert caption.encode("utf-8").decode("utf-8") == caption


@given(st.lists(PIECES), st.data())
@settings(deadline=None, max_examples=300)
def test_a_span_covers_the_cleaned_form_of_what_it_covered(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    edges = [0, *accumulate(map(len, pieces))]
    start, end = sorted((data.draw(st.sampled_from(edges)), data.draw(st.sampled_from(edges))))
    if start < end:
        cleaned = clean(text)
        anchored = cleaned.anchor(Span(start=start, end=end))
        assert (anchored.of(cleaned.text) if anchored else "") == clean(text[start:end]).text


@given(ANY_TEXT, st.integers(0, 40), st.integers(1, 40))
@settings(deadline=None, max_examples=300)
def test_any_span_lands_inside_the_caption_and_around_its_words(text: str, start: int, length: int) -> None:
    span = Span(start=start, end=start + length)
    cleaned = clean(text)
    anchored = cleaned.anchor(span)
    covered = clean(span.of(text)).text
    if anchored is None:
        assert not covered
    else:
        assert anchored.end <= len(cleaned.text)
        assert anchored.of(cleaned.text) == anchored.of(cleaned.text).strip(" ")
        assert cleaned.starts[anchored.start] < span.end and span.start < cleaned.ends[anchored.end - 1]


def test_annotations_point_into_the_caption() -> None:
    text = "  A &quot;big&quot;\n dog  "
    result = caption_of(text, annotation(Span(start=10, end=19)), annotation(Span(start=0, end=2)), annotation(None))
    assert isinstance(result, CaptionOut)
    assert [a.span and a.span.of(result.caption) for a in result.annotations] == ['big"', None, None]


def test_a_span_past_the_end_of_the_text_covers_what_is_there() -> None:
    result = caption_of("a dog", annotation(Span(start=2, end=99)), annotation(Span(start=50, end=99)))
    assert isinstance(result, CaptionOut)
    assert [a.span for a in result.annotations] == [Span(start=2, end=5), None]


@pytest.mark.parametrize("text", [None, "", " \n\t\u00a0", "\x00\u200b\ufeff", "&nbsp;&shy;"])
def test_a_record_without_words_is_dropped(text: str | None) -> None:
    assert caption_of(text) == Drop("no_caption")


def test_captions_of_unfit_length_are_dropped_with_their_length() -> None:
    params = CaptionParams(min_chars=4, max_chars=6)
    assert caption_of(" cat ", params=params) == Drop("too_short", "'cat' has 3 characters; min_chars is 4")
    assert isinstance(caption_of("horse", params=params), CaptionOut)
    assert caption_of("a horse", params=params) == Drop("too_long", "'a horse'… has 7 characters; max_chars is 6")


def test_bounds_that_nothing_passes_are_refused() -> None:
    with pytest.raises(ValueError, match="min_chars 9 is above max_chars 4"):
        CaptionParams(min_chars=9, max_chars=4)


@given(st.lists(st.builds(CaptionIn, alt_text=st.none() | ANY_TEXT, annotations=st.just(())), max_size=4))
@settings(deadline=None)
def test_batching_changes_nothing(records: list[CaptionIn]) -> None:
    stage = Caption.load(CaptionParams(), Context())
    assert stage.process(records) == [result for record in records for result in stage.process([record])]
    assert stage.process(records[::-1]) == stage.process(records)[::-1]


def test_a_text_no_cleaning_could_make_fit_is_not_cleaned() -> None:
    result = caption_of("\u0301\u0323" * 5_000_000)
    assert isinstance(result, Drop) and result.reason == "too_long"
