import itertools
import json
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from manifests.record import Annotation, DroppedSubject, Span
from stages.base import Context, Drop, Fail
from stages.describe import PROMPT, Describe, DescribeIn, DescribeOut, DescribeParams, parse
from stages.parser import SpacyParser, parser_use
from tests.stages.models.tiny_captioner import save
from tests.stages.told_captioner import Told, annotated, asker

EARLIER = DroppedSubject(phrase="x", stage="y", reason="z")
Result = DescribeOut | Drop | Fail


@pytest.fixture(scope="module")
def parser() -> SpacyParser:
    return SpacyParser("en_caption")


class Read:
    """Describes records as told."""

    def __init__(self, parser: SpacyParser) -> None:
        self._parser = parser

    def answer(self, text: str, end: Literal["stop", "cut"] = "stop", **params: Any) -> Result:
        given = DescribeParams(**params)
        stage = Describe(given, asker(Told(text, end=end), given), self._parser)
        (result,) = stage.process([DescribeIn(**annotated(dropped_subjects=(EARLIER,)))])
        return result

    def __call__(self, caption: str, *entities: str, **params: Any) -> Result:
        return self.answer(json.dumps({"caption": caption, "entities": entities}), **params)


@pytest.fixture(scope="module")
def read(parser: SpacyParser) -> Read:
    return Read(parser)


def phrases(result: Result) -> list[tuple[int, str]]:
    assert isinstance(result, DescribeOut)
    assert all(subject.span.of(result.caption) == subject.phrase for subject in result.subjects)
    return [(subject.span.start, subject.phrase) for subject in result.subjects]


def lost(result: Result) -> list[tuple[str, str]]:
    assert isinstance(result, DescribeOut) and result.dropped_subjects[0] == EARLIER
    assert all(dropped.stage == "describe" for dropped in result.dropped_subjects[1:])
    return [(dropped.phrase, dropped.reason) for dropped in result.dropped_subjects[1:]]


def test_each_phrase_is_a_subject_at_its_place_with_its_head_and_number(read: Read) -> None:
    out = read("A man with two red balloons rides a BIG brown dog.", "big brown dog", "a man", "two red balloons")
    assert phrases(out) == [(2, "man"), (15, "red balloons"), (36, "BIG brown dog")]
    assert isinstance(out, DescribeOut) and lost(out) == []
    assert [(subject.head, subject.is_plural) for subject in out.subjects] == [
        ("man", False),
        ("balloon", True),
        ("dog", False),
    ]


def test_repeated_nested_and_missing_phrases(read: Read) -> None:
    out = read("A dog lies by a dog house near a dog.", "dog", "dog house", "house", "dog", "dog", "cat", "", "og")
    assert phrases(out) == [(2, "dog"), (16, "dog house"), (33, "dog")]
    assert lost(out) == [
        ("house", "no_place_left"),
        ("dog", "no_place_left"),
        ("cat", "not_in_caption"),
        ("", "not_in_caption"),
        ("og", "not_in_caption"),
    ]


def test_what_is_no_noun_not_there_or_too_much_is_listed(read: Read) -> None:
    caption = "He sits on a bench without a hat, near a tree and a lake."
    out = read(caption, "He", "hat", "bench", "tree", "lake", max_subjects=2, nouns_only=True)
    assert phrases(out) == [(13, "bench"), (41, "tree")]
    assert lost(out) == [("He", "not_a_noun"), ("hat", "absent"), ("lake", "too_many_phrases")]
    assert phrases(read("He runs home", "He")) == [(0, "He")]


def test_captions_that_name_nothing_pass_unless_that_is_too_few(read: Read) -> None:
    assert phrases(read("A dog runs")) == []
    assert read("A dog runs", "cat", min_subjects=1) == Drop("too_few_subjects", "0 in 'A dog runs'")
    assert phrases(read("A dog runs", "dog", min_subjects=1)) == [(2, "dog")]


def test_phrases_and_caption_are_cleaned_alike(read: Read) -> None:
    out = read("The image shows a\u00a0caf\u0065\u0301 &amp;  bar.", "cafe\u0301", "BAR", "a café & bar")
    assert isinstance(out, DescribeOut) and out.caption == "A café & bar."
    assert phrases(out) == [(2, "café & bar")]


def test_nine_hundred_entities_are_matched_one_by_one(read: Read) -> None:
    caption = " and ".join(f"a dog{n}" for n in range(80))
    out = read(caption, *(f"dog{n % 90}" for n in range(900)), max_subjects=80)
    assert [phrase for _, phrase in phrases(out)] == [f"dog{n}" for n in range(80)]
    assert len(lost(out)) == 820


@pytest.mark.parametrize("fence", ["{}", "```json\n{}\n```", "```\n{}\n```", "\n ```json \n{}\n```\n", " {}\n"])
def test_a_code_fence_around_the_object_does_not_matter(fence: str) -> None:
    plain = '{"caption": "a ```b``` {c}", "entities": ["d", "e"]}'
    said = parse(fence.replace("{}", plain))
    assert (said.caption, said.entities) == ("a ```b``` {c}", ("d", "e"))


NOT_THE_OBJECT = [
    "", "A dog.", "null", "[]", "{}", '{"caption": "a dog"}', '{"entities": []}',
    '{"caption": 1, "entities": []}', '{"caption": "a", "entities": "dog"}', '{"caption": "a", "entities": [1]}',
    '{"caption": "a", "entities": [null]}', '{"caption": "a", "entities": [], "more": 1}',
    '{"caption": "a", "entities": []} {}', 'Sure! {"caption": "a", "entities": []}',
    '```json\n{"caption": "a", "entities": []}\n``` Done.', "{'caption': 'a', 'entities': []}",
    '{"caption": "a", "entities": ["b",]}', '{"caption": "a", "entities": ["b"',
    '{"caption": "\\ud800", "entities": []}',
    '{"caption": NaN, "entities": []}', '{"caption": "a", "entities": ' + "[" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("answer", NOT_THE_OBJECT)
def test_any_other_answer_fails_and_shows_how_it_began(read: Read, answer: str) -> None:
    with pytest.raises(ValidationError):
        parse(answer)
    assert read.answer(answer) == Fail("unparsable_answer", repr(answer[:200]))


def test_a_cut_answer_says_so(read: Read) -> None:
    assert read.answer('{"caption": "A do', "cut") == Fail("unparsable_answer", '\'{"caption": "A do\' …, cut')


@pytest.mark.parametrize(
    ("caption", "reason"),
    [("", "empty_caption"), ("ab", "too_short"), ("dog " * 999, "too_long"), ("a a a a a", "repetitive_caption")],
)
def test_unfit_captions_drop_the_record(read: Read, caption: str, reason: str) -> None:
    result = read(caption, "dog")
    assert isinstance(result, Drop) and result.reason == reason


WORDS = ["dog", "red dog", "a", "the", "no cat", "cats", "犬", "two", "house", "dog house", "of", ",", "it", "'s", "é"]


@given(
    caption=st.lists(st.sampled_from(WORDS) | st.text(max_size=3), min_size=1, max_size=9).map(" ".join),
    entities=st.lists(st.sampled_from(WORDS) | st.text(max_size=4), max_size=6),
    nouns_only=st.booleans(),
)
@settings(deadline=None, max_examples=60)
def test_every_phrase_is_kept_or_listed_and_subjects_lie_apart(
    read: Read, caption: str, entities: list[str], nouns_only: bool
) -> None:
    result = read.answer(
        json.dumps({"caption": caption, "entities": entities}), nouns_only=nouns_only, min_chars=1, max_repeats=99
    )
    if isinstance(result, Drop | Fail):
        assert result.reason in Describe.reasons
        return
    assert len(result.subjects) + len(lost(result)) == len(entities)
    assert all(reason in Describe.reasons for _, reason in lost(result))
    for subject in result.subjects:
        assert subject.span.of(result.caption) == subject.phrase
        assert subject.span.start <= subject.head_span.start and subject.head_span.end <= subject.span.end
    assert all(a.span.end <= b.span.start for a, b in itertools.pairwise(result.subjects))


def test_annotations_lose_their_spans(parser: SpacyParser) -> None:
    box = {"x0": 0.1, "y0": 0.1, "x1": 0.5, "y1": 0.5}
    params, said = DescribeParams(), Annotation(phrase="dog", span=Span(start=0, end=3), **box)
    stage = Describe(params, asker(Told('{"caption": "A dog", "entities": ["dog"]}'), params), parser)
    (out,) = stage.process([DescribeIn(**annotated(annotations=(said,), dropped_subjects=()))])
    assert isinstance(out, DescribeOut) and out.annotations == (Annotation(phrase="dog", **box),)


def test_from_a_folder_to_the_answer_s_end(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = str(save("blip2_t5", tmp_path_factory.mktemp("describe")))
    params = DescribeParams(model=folder, max_new_tokens=4, images_per_call=2)
    stage = Describe.load(params, Context())
    records = [DescribeIn(**annotated(key=f"r{n}", dropped_subjects=())) for n in range(3)]
    found = stage.process(records)
    assert [result.reason for result in found if isinstance(result, Fail)] == ["unparsable_answer"] * 3
    assert stage.process(records[1:2]) == found[1:2]
    assert [use.name for use in Describe.models(params)] == [folder, "en_caption"]
    assert Describe.models(params)[1] == parser_use("en_caption")


def test_the_prompt_shows_an_object_that_would_be_read() -> None:
    assert parse(PROMPT[PROMPT.index("{") :]).entities == ("a phrase", "another phrase")
