import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.record import DroppedSubject, ModelUse, Span, Subject
from stages.base import Context, Drop, Fail
from stages.parser import Chunk, find_model, revision
from stages.phrases import NOT_DEPICTED, Phrases, PhrasesIn, PhrasesOut, PhrasesParams

BUNDLED = find_model("en_caption")

Result = PhrasesOut | Drop | Fail
Find = Callable[[str], PhrasesOut]


@pytest.fixture(scope="module")
def stage() -> Phrases:
    return Phrases.load(PhrasesParams(require=False), Context())


@pytest.fixture(scope="module")
def find(stage: Phrases) -> Find:
    return lambda caption: kept(*stage.process([PhrasesIn(caption=caption, dropped_subjects=())]))


def kept(result: Result) -> PhrasesOut:
    assert isinstance(result, PhrasesOut)
    return result


def phrases(out: PhrasesOut) -> list[str]:
    return [subject.phrase for subject in out.subjects]


def reasons(out: PhrasesOut) -> dict[str, str]:
    return {dropped.phrase: dropped.reason for dropped in out.dropped_subjects}


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("A big brown dog on the beach", ["big brown dog", "beach"]),
        ("two dogs and a sheep", ["dogs", "sheep"]),
        ("about 20 people on his two red bikes", ["people", "red bikes"]),
        ("several birds and many small cats", ["birds", "small cats"]),
        ("the woman's dog", ["woman's dog"]),
        ("a two year old boy in the two-story house", ["two year old boy", "two-story house"]),
        ("2014 Ford Mustang in a garage", ["2014 Ford Mustang", "garage"]),
        ("\"the dog\" and 'cat'", ["dog", "cat"]),
        ("A BIPLANE AND A SMALL BOAT OUT ON THE WATER", ["BIPLANE", "SMALL BOAT", "WATER"]),
        ("He holds it in front of them", []),
        ("a close-up of a group of dogs in the middle of a field", ["dogs", "field"]),
        ("a picture of a slice of pizza", ["pizza"]),
    ],
)
def test_a_caption_names_its_things_without_articles_and_numbers(find: Find, caption: str, expected: list[str]) -> None:
    assert phrases(find(caption)) == expected


def test_a_subject_knows_its_head_and_number(find: Find) -> None:
    out = find("Two Big Dogs on a wet street")
    caption = "Two Big Dogs on a wet street"
    assert [(s.head, s.head_span.of(caption), s.is_plural) for s in out.subjects] == [
        ("dog", "Dogs", True),
        ("street", "street", False),
    ]


@pytest.mark.parametrize(
    ("phrase", "is_plural"), [("two sheep", True), ("one sheep", False), ("several sheep", True), ("men", True)]
)
def test_counted_nouns_are_plural_whatever_their_form(find: Find, phrase: str, is_plural: bool) -> None:
    (subject,) = find(f"a field with {phrase}").subjects[1:]
    assert subject.is_plural == is_plural


def test_what_is_no_subject_is_listed_with_its_reason(find: Find) -> None:
    out = find("He is on top of a hill without a hat, no dogs, a tree, and a Tree")
    assert phrases(out) == ["hill", "tree"]
    assert reasons(out) == {
        "He": "not_a_noun",
        "top": "not_depicted",
        "hat": "absent",
        "dogs": "absent",
        "Tree": "duplicate_phrase",
    }


ANY_CAPTION = st.lists(
    st.sampled_from(["a dog", "two", "cats", "THE", "of", ",", "犬", "🐕", "\u0301", "?!", "don't", "1", "no", "  "])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    max_size=12,
).map(" ".join)


@given(caption=ANY_CAPTION)
@settings(deadline=None, max_examples=150)
def test_spans_hold_their_words_in_order_in_any_text(find: Find, caption: str) -> None:
    subjects = find(caption).subjects
    for subject in subjects:
        assert subject.span.of(caption) == subject.phrase
        assert subject.span.start <= subject.head_span.start and subject.head_span.end <= subject.span.end
        assert subject.head and subject.head == subject.head.lower()
    assert all(a.span.end <= b.span.start for a, b in itertools.pairwise(subjects))
    assert len({subject.phrase.casefold() for subject in subjects}) == len(subjects)


@given(captions=st.lists(ANY_CAPTION, max_size=4))
@settings(deadline=None, max_examples=30)
def test_batching_and_order_change_nothing(stage: Phrases, captions: list[str]) -> None:
    records = [PhrasesIn(caption=caption, dropped_subjects=()) for caption in captions]
    alone = [result for record in records for result in stage.process([record])]
    assert stage.process(records) == alone
    assert stage.process(records[::-1]) == alone[::-1]


@pytest.mark.parametrize("piece", ["a big dog and the cat on 犬 beach. ", "((", "🐕", "'s", "x", "!?_", "dog "])
def test_time_grows_with_the_length_of_a_caption_and_no_faster(find: Find, piece: str) -> None:
    began = time.perf_counter()
    find((piece * 20_000)[:20_000])
    assert time.perf_counter() - began < 5  # About 0.5 s; 30 s where the tokenizer is quadratic.


def test_a_later_model_of_the_same_words_gives_the_same_subjects(find: Find) -> None:
    again = Phrases.load(PhrasesParams(require=False), Context())
    caption = "A man riding a red bike next to two cars"
    assert again.process([PhrasesIn(caption=caption, dropped_subjects=())]) == [find(caption)]


def subject(phrase: str, start: int = 0, is_plural: bool = False) -> Subject:
    span = Span(start=start, end=start + len(phrase))
    head = phrase.lower().split()[-1]
    return Subject(
        phrase=phrase,
        span=span,
        head=head,
        head_span=Span(start=span.end - len(head), end=span.end),
        is_plural=is_plural,
    )


def parsed(params: PhrasesParams, *subjects: Subject) -> Result:
    chunks = [Chunk(subject, is_noun=True, is_absent=False) for subject in subjects]
    earlier = (DroppedSubject(phrase="x", stage="y", reason="z"),)
    (result,) = Phrases(params, lambda caption: chunks).process([PhrasesIn(caption="…", dropped_subjects=earlier)])
    return result


DOGS = (subject("red dog"), subject("Red Dog", 10), subject("dog", 20), subject("cats", 30, is_plural=True))


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (PhrasesParams(), ["red dog", "dog", "cats"]),
        (PhrasesParams(unique="head"), ["red dog", "cats"]),
        (PhrasesParams(unique="none"), ["red dog", "Red Dog", "dog", "cats"]),
        (PhrasesParams(plurals="drop"), ["red dog", "dog"]),
        (PhrasesParams(max_subjects=2), ["red dog", "dog"]),
        (PhrasesParams(min_letters=4), ["red dog", "cats"]),
        (PhrasesParams(stop_heads=("dog",)), ["cats"]),
        (PhrasesParams(stop_heads=("red dog",)), ["dog", "cats"]),
    ],
)
def test_parameters_choose_among_the_phrases(params: PhrasesParams, expected: list[str]) -> None:
    out = kept(parsed(params, *DOGS))
    assert phrases(out) == expected
    assert len(out.subjects) + len(out.dropped_subjects) == len(DOGS) + 1
    assert {dropped.reason for dropped in out.dropped_subjects[1:]} <= Phrases.reasons.keys()


def test_more_things_by_one_noun_than_allowed_drop_the_record_also_those_that_become_no_subjects() -> None:
    dogs = [subject("dog", 0), subject("cat", 6), subject("red dog", 12), subject("dog", 22)]
    for params in (PhrasesParams(max_alike=2), PhrasesParams(max_alike=2, unique="none", max_subjects=1)):
        assert parsed(params, *dogs) == Drop("too_many_alike", "3 x dog, max_alike is 2")
    assert phrases(kept(parsed(PhrasesParams(max_alike=3), *dogs))) == ["dog", "cat", "red dog"]
    assert phrases(kept(parsed(PhrasesParams(max_alike=1, stop_heads=("dog",)), *dogs))) == ["cat"]


def test_phrases_dropped_before_stay_listed() -> None:
    out = kept(parsed(PhrasesParams(plurals="drop"), *DOGS[2:]))
    assert [(dropped.phrase, dropped.reason) for dropped in out.dropped_subjects] == [("x", "z"), ("cats", "plural")]


def test_a_caption_that_names_nothing_drops_the_record_only_if_that_is_required() -> None:
    assert parsed(PhrasesParams()) == Drop("no_phrases", "in '…'")
    assert kept(parsed(PhrasesParams(require=False))).subjects == ()


def test_the_stop_list_is_lower_case_without_repeats() -> None:
    assert [head.lower() for head in NOT_DEPICTED] == list(dict.fromkeys(NOT_DEPICTED))


def test_the_model_is_named_without_loading_spacy() -> None:
    code = (
        "import sys; from stages.phrases import Phrases, PhrasesParams;"
        "(use,) = Phrases.models(PhrasesParams()); assert 'spacy' not in sys.modules; print(use.revision)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == revision(BUNDLED)
    assert Phrases.models(PhrasesParams()) == (ModelUse(name="en_caption", revision=revision(BUNDLED)),)


def test_a_model_may_be_a_folder(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(BUNDLED, tmp_path / "mine"))
    params = PhrasesParams(model=str(folder))
    (result,) = Phrases.load(params, Context()).process([PhrasesIn(caption="a dog", dropped_subjects=())])
    assert phrases(kept(result)) == ["dog"]
    assert Phrases.models(params) == (ModelUse(name=str(folder), revision=revision(folder)),)


def test_a_missing_model_is_named_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"no spaCy model 'en_core_web_xxl': bundled is en_caption; .*spacy download"):
        Phrases.models(PhrasesParams(model="en_core_web_xxl"))
