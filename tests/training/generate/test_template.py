import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.generate.template import Slot, Template, check_images, format_template, parse_template, slots

TEXTS = st.text("a{}:0 é\n狗", min_size=1)
WORDS = st.text("a :0é狗").map(str.strip)


@st.composite
def templates(draw: st.DrawFn) -> Template:
    numbers = draw(st.lists(st.integers(0, 30), unique=True, max_size=4))
    parts: list[str | Slot] = [Slot(number, draw(WORDS)) for number in numbers]
    for place in range(len(numbers), -1, -1):
        text = draw(TEXTS | st.just(""))
        parts[place:place] = [text] if text else []
    return tuple(parts)


@given(templates())
def test_what_is_formatted_parses_to_the_same(template):
    assert parse_template(format_template(template)) == template


@given(st.text("a{}:01 "))
def test_any_text_is_a_template_or_one_line_that_says_why_not(text):
    try:
        template = parse_template(text)
    except ValueError as error:
        assert "{" in str(error) or "}" in str(error)
    else:
        assert parse_template(format_template(template)) == template


def test_slots_stand_in_reading_order_with_their_words():
    template = parse_template("{1} beside a {0: teddy bear } in {{braces}}")

    assert template == (Slot(1), " beside a ", Slot(0, "teddy bear"), " in {braces}")
    assert slots(template) == (1, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a \udcff dog", "no text in UTF-8 at character 2"),
        ("a {0 dog", "a single '{' at character 2; write it twice"),
        ("a 0} dog", "a single '}' at character 3"),
        ("a {dog}", "{dog} is no slot"),
        ("a {-1}", "{-1} is no slot"),
        ("a {01}", "{01} is no slot"),
        ("a {}", "{} is no slot"),
        ("a {0: }", "names no words after its colon"),
        ("a {0} and {0:dog}", "the slot {0} stands twice"),
    ],
)
def test_a_slip_in_the_syntax_is_named(text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_template(text)


@pytest.mark.parametrize(
    ("text", "images", "message"),
    [
        ("a {0} dog", [], "the slot {0}, but no image is given"),
        ("a {0} dog", ["a.png", "b.png"], "does not use image 1, b.png: put {1} where it belongs"),
        ("{0} and {3}", ["a.png", "b.png"], "the slot {3}, but only 2 images are given"),
        ("", [], "the prompt is empty"),
        (" \n", [], "the prompt is empty"),
    ],
)
def test_images_and_slots_must_match(text, images, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_images(parse_template(text), images)


def test_an_image_alone_is_a_prompt():
    check_images(parse_template("{0}"), ["a.png"])
