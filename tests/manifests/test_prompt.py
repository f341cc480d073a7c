import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.prompt import ImageSegment, Insertion, InterleavedPrompt, TextSegment
from tests.strategies import prompts

examples = settings(deadline=None, max_examples=100)


@examples
@given(prompts())
def test_parsing_undoes_serialising(prompt: InterleavedPrompt) -> None:
    assert InterleavedPrompt.from_json(prompt.to_json()) == prompt
    assert InterleavedPrompt.from_plain(json.loads(json.dumps(prompt.to_plain()))) == prompt


@examples
@given(prompts(), prompts())
def test_equal_prompts_and_only_they_have_equal_json(one: InterleavedPrompt, other: InterleavedPrompt) -> None:
    assert (one == other) == (one.to_json() == other.to_json())


@examples
@given(prompts())
def test_the_caption_is_the_text_and_the_words_that_images_stand_for(prompt: InterleavedPrompt) -> None:
    expected = ""
    for segment in prompt.segments:
        if isinstance(segment, TextSegment):
            expected += segment.text
        elif segment.insertion in ("replace", "feature"):
            expected += segment.phrase
    assert prompt.caption == expected


@examples
@given(prompts())
def test_rendering_shows_all_text_and_every_image_in_order(prompt: InterleavedPrompt) -> None:
    rest = prompt.render()
    for segment in prompt.segments:
        shown = segment.text if isinstance(segment, TextSegment) else segment.marker
        assert rest.startswith(shown)
        rest = rest.removeprefix(shown)
        if isinstance(segment, ImageSegment) and segment.insertion in ("before", "side"):
            assert rest.startswith(" ")
            rest = rest.removeprefix(" ")
    assert not rest


DOG, SCOOTER = ("subject0", "dog"), ("subject1", "scooter")


@pytest.mark.parametrize(
    ("prompt", "line"),
    [
        (
            (
                TextSegment("a "),
                ImageSegment(*DOG, "replace"),
                TextSegment(" on a "),
                ImageSegment(*SCOOTER, "replace"),
            ),
            "a <subject0> on a <subject1>",
        ),
        (
            (ImageSegment("canny", "", "before"), TextSegment("a "), ImageSegment(*DOG, "before"), TextSegment("dog")),
            "<canny> a <subject0> dog",
        ),
        (
            (TextSegment("a "), ImageSegment(*DOG, "feature"), TextSegment(" runs")),
            "a <subject0: dog> runs",
        ),
        (
            (ImageSegment(*DOG, "side"), ImageSegment(*SCOOTER, "side"), TextSegment("a dog on a scooter")),
            "<subject0> <subject1> a dog on a scooter",
        ),
    ],
)
def test_each_insertion_reads_as_its_paper_writes_it(prompt: tuple[TextSegment | ImageSegment, ...], line: str) -> None:
    assert InterleavedPrompt(prompt).render() == line


@pytest.mark.parametrize("insertion", ["replace", "before", "feature", "side"])
def test_images_lists_the_image_segments_in_reading_order(insertion: Insertion) -> None:
    first, second = ImageSegment(*DOG, insertion), ImageSegment(*SCOOTER, insertion)
    assert InterleavedPrompt((first, TextSegment("x"), second)).images == (first, second)


def test_empty_text_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one character"):
        TextSegment("")


@pytest.mark.parametrize(
    "member", ["subject", "subject01", "subject-1", "subject1 ", "mask", "", "Canny", "subject1\n"]
)
def test_an_image_that_points_nowhere_is_refused(member: str) -> None:
    with pytest.raises(ValueError, match="an image segment points at"):
        ImageSegment(member, "dog", "replace")


@given(st.text())
def test_an_unknown_insertion_is_refused(insertion: str) -> None:
    with pytest.raises(ValueError, match="insertion must be one of"):
        ImageSegment("subject0", "dog", insertion.upper())  # type: ignore[arg-type]


def test_adjacent_text_is_refused() -> None:
    with pytest.raises(ValueError, match="adjacent text segments must be one: 'a' \\+ 'b'"):
        InterleavedPrompt((TextSegment("a"), TextSegment("b")))


@pytest.mark.parametrize(
    "part",
    [
        {},
        {"text": 1},
        {"text": "a", "phrase": "b"},
        {"image": "subject0", "phrase": "dog"},
        {"image": "subject0", "phrase": None, "insertion": "side"},
        {"image": "subject0", "phrase": "dog", "insertion": ["side"]},
        {"image": "subject0", "phrase": "dog", "insertion": "side", "more": 1},
        "text",
        None,
    ],
)
def test_anything_but_a_segment_is_refused_when_parsing(part: object) -> None:
    with pytest.raises(ValueError, match="got"):
        InterleavedPrompt.from_json(json.dumps([part]))


def test_broken_json_is_refused() -> None:
    with pytest.raises(ValueError):
        InterleavedPrompt.from_json('[{"text":')
