import re
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.prompt import ImageSegment, Insertion
from tests.training.generate.test_template import templates
from training.generate.compose import compose, doubts
from training.generate.template import parse_template, slots
from training.stream.prompts.base import weave
from training.stream.prompts.unimo_g import UnimoG

LOOK = UnimoG(side=32, fill=(1, 2, 3))
INSERTIONS = st.sampled_from(get_args(Insertion))


def composed(text: str, insertion: Insertion):
    return compose(parse_template(text), insertion, LOOK)


@pytest.mark.parametrize(
    ("insertion", "text", "rendered", "caption"),
    [
        ("replace", "a {0:dog} on the beach", "a <subject0> on the beach", "a dog on the beach"),
        ("replace", "a {0} dog on the beach", "a <subject0> dog on the beach", "a  dog on the beach"),
        ("feature", "a {0} dog on the beach", "a <subject0: dog> on the beach", "a dog on the beach"),
        ("feature", "a {0:teddy bear}, red", "a <subject0: teddy bear>, red", "a teddy bear, red"),
        ("before", "a {0} dog and {1:my cat}", "a <subject0> dog and <subject1> my cat", "a dog and my cat"),
        ("side", "a {0} dog and {1:my cat}", "<subject0> <subject1> a dog and my cat", "a dog and my cat"),
    ],
)
def test_an_image_enters_as_the_family_has_it(insertion, text, rendered, caption):
    prompt = composed(text, insertion)

    assert (prompt.interleaved.render(), prompt.caption) == (rendered, caption)


@pytest.mark.parametrize("insertion", ["replace", "feature", "before"])
def test_prompts_with_named_words_are_those_that_training_weaves(insertion):
    prompt = composed("a {1:cat} on {0:the mat}, {{red}}", insertion)

    assert prompt.interleaved == weave(prompt.caption, prompt.references, insertion)
    assert [reference.span.of(prompt.caption) for reference in prompt.references] == ["cat", "the mat"]


@given(templates(), INSERTIONS)
def test_spans_are_of_the_words_and_the_images_stand_in_reading_order(template, insertion):
    try:
        prompt = compose(template, insertion, LOOK)
    except ValueError as error:
        assert "no word behind it" in str(error) and insertion in ("feature", "before")
        return
    assert [part.name for part in prompt.references] == [f"subject{number}" for number in slots(template)]
    assert [part.member for part in prompt.interleaved.images] == [part.name for part in prompt.references]
    assert prompt.interleaved.caption == prompt.caption
    assert insertion == "replace" or prompt.text == prompt.caption
    for segment, reference in zip(prompt.interleaved.images, prompt.references, strict=True):
        assert segment.phrase == (reference.span.of(prompt.caption) if reference.span else "")


def test_the_look_of_references_is_the_builders():
    (reference,) = composed("{0:dog}", "replace").references

    assert (reference.side, reference.fill, reference.role, reference.augmentation) == (32, (1, 2, 3), "subject", None)


@pytest.mark.parametrize("text", ["a dog {0}", "{0}, a dog", "{0} {1:cat}", "{0}{1:cat}"])
@pytest.mark.parametrize("insertion", ["feature", "before"])
def test_a_slot_that_needs_a_word_and_has_none_says_so(text, insertion):
    with pytest.raises(ValueError, match=re.escape("the slot {0} has no word behind it: name some, as in {0:dog}")):
        composed(text, insertion)


def test_a_word_has_its_hyphens_and_apostrophes_but_not_its_genitive():
    assert composed("a {0} jack-o'-lantern's light", "feature").interleaved.images == (
        ImageSegment("subject0", "jack-o'-lantern", "feature"),
    )


@pytest.mark.parametrize(
    ("text", "insertion", "told"),
    [
        ("a {0} on the left", "feature", ["the image of {0} goes with the word 'on' behind it"]),
        ("{1} And {0} is red", "feature", ["the image of {1} goes with the word 'And'", "the image of {0}"]),
        ("a {0} dog and {1:on}", "feature", []),
        ("a {0} on the left", "replace", []),
        ("a {0} on the left", "before", []),
    ],
)
def test_a_word_that_names_nothing_is_told_where_an_image_would_overwrite_it(text, insertion, told):
    found = list(doubts(parse_template(text), insertion))

    assert len(found) == len(told) and all(part in doubt for part, doubt in zip(told, found, strict=True))
