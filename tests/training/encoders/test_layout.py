import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.prompt import ImageSegment, InterleavedPrompt, TextSegment
from training.encoders.byte_tokenizer import byte_tokenizer
from training.encoders.layout import Layout

TOKENIZER = byte_tokenizer(("<pad>", "<s>", "<image>", "<open>", "<close>"))
START, IMAGE, OPEN, CLOSE = 1, 2, 3, 4


def layout(max_tokens=100, **options):
    return Layout(
        tokenizer=TOKENIZER,
        start=(START,),
        opening=(OPEN,),
        placeholder=IMAGE,
        closing=(CLOSE,),
        tokens_per_image=3,
        max_tokens=max_tokens,
        **options,
    )


def prompt(*parts):
    segments = [
        TextSegment(part) if isinstance(part, str) else ImageSegment(f"subject{part}", "dog", "replace")
        for part in parts
    ]
    return InterleavedPrompt(tuple(segments))


def test_an_image_stands_in_place_between_its_delimiters():
    written = layout().write(prompt("a ", 0, " b", 1))
    images = [OPEN, IMAGE, IMAGE, IMAGE, CLOSE]
    text = [list(TOKENIZER(part, add_special_tokens=False)["input_ids"]) for part in ("a ", " b")]
    assert written.ids == [START, *text[0], *images, *text[1], *images]
    assert written.entity == [0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 2, 2, 2, 0]
    assert (written.references, written.kept, written.is_cut) == (2, 2, False)


def test_an_empty_prompt_is_the_start_alone():
    written = layout().write(InterleavedPrompt(()))
    assert (written.ids, written.entity, written.is_cut) == ([START], [0], False)


@given(st.lists(st.one_of(st.none(), st.text(min_size=1, max_size=6)), max_size=6), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_what_is_cut_is_a_beginning_with_whole_images(parts, room):
    segments, images = [], 0
    for part in parts:
        if part is None:
            segments.append(ImageSegment(f"subject{images}", "dog", "replace"))
            images += 1
        elif not segments or not isinstance(segments[-1], TextSegment):
            segments.append(TextSegment(part))
    whole = layout(10_000).write(InterleavedPrompt(tuple(segments)))
    cut = layout(room).write(InterleavedPrompt(tuple(segments)))
    assert cut.ids == whole.ids[: len(cut.ids)]
    assert cut.entity == whole.entity[: len(cut.ids)]
    assert len(cut.ids) <= room
    assert cut.is_cut == (whole.length > room)
    assert all(cut.entity.count(number) == 3 for number in range(1, cut.kept + 1))
    assert max(cut.entity) == cut.kept
    assert cut.references == whole.references == images


def test_text_that_goes_on_behind_an_image_stands_off_if_the_layout_says_so():
    own = layout(gap=" ")
    for text, apart in (("b", " b"), (" b", " b"), ("<b", "<b")):
        assert own.write(prompt("a", 0, text)).ids == layout().write(prompt("a", 0, apart)).ids


def test_neighbouring_images_may_share_their_delimiter_also_where_the_last_is_cut():
    images = [OPEN, IMAGE, IMAGE, IMAGE, CLOSE]
    own = layout(is_shared=True, max_tokens=12)
    assert own.write(prompt(0, 1)).ids == [START, *images, *images[1:]]
    assert own.write(prompt(0, 1, 2)).ids == [START, *images, *images[1:]]
    assert own.write(prompt(0, 1, 2)).kept == 2


def test_an_image_beside_the_sequence_is_told():
    beside = InterleavedPrompt((ImageSegment("subject0", "dog", "side"),))
    with pytest.raises(ValueError, match="<subject0> enters as 'side', but must stand in the sequence"):
        layout().write(beside)
