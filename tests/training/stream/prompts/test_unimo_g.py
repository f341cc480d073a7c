from collections import Counter

import pytest
from msgspec.structs import replace

from manifests.record import Span
from tests.training.stream.make import CAPTION, draw_record, draws, example_of
from training.stream.geometry import frame
from training.stream.prompts.unimo_g import UnimoG

EXAMPLE = example_of(draw_record())
WHOLE = frame((96, 64), (96, 64), draws(), "centre")
COUNT = 6000


def test_a_replaced_subject_leaves_no_words():
    prompt = UnimoG(replace_rate=1, text_only_rate=0, drop_rate=0).build(EXAMPLE, WHOLE, draws())
    assert prompt.interleaved.render() == (
        "a <subject0> with a <subject1> walks his <subject2> past a <subject3> and an <subject4>"
    )
    assert prompt.caption == prompt.interleaved.caption == CAPTION


def test_each_subject_is_replaced_on_its_own_at_the_rate():
    builder = UnimoG(text_only_rate=0, drop_rate=0)
    found = [builder.build(EXAMPLE, WHOLE, draws(str(n))).references for n in range(COUNT)]
    shown = Counter(reference.name for references in found for reference in references)
    assert all(shown[f"subject{n}"] / COUNT == pytest.approx(0.8, abs=0.025) for n in range(5))
    assert sum(len(references) == 5 for references in found) / COUNT == pytest.approx(0.8**5, abs=0.03)


def test_a_tenth_keeps_the_pure_caption_and_a_tenth_is_empty():
    found = [UnimoG(replace_rate=1).build(EXAMPLE, WHOLE, draws(str(n))) for n in range(COUNT)]
    assert sum(prompt.is_text_dropped for prompt in found) / COUNT == pytest.approx(0.1, abs=0.02)
    pure = sum(not prompt.references and not prompt.is_text_dropped for prompt in found) / COUNT
    assert pure == pytest.approx(0.09, abs=0.02)
    assert {prompt.text for prompt in found if not prompt.references} == {CAPTION, ""}


def test_no_more_images_enter_than_allowed_and_any_may():
    builder = UnimoG(replace_rate=1, text_only_rate=0, drop_rate=0, max_images=2)
    found = [builder.build(EXAMPLE, WHOLE, draws(str(n))).references for n in range(400)]
    assert {len(references) for references in found} == {2}
    assert {reference.name for references in found for reference in references} == {f"subject{n}" for n in range(5)}


def test_of_two_subjects_with_common_words_the_first_enters():
    wide = replace(EXAMPLE.subjects[1], phrase=CAPTION[:20], span=Span(start=0, end=20))
    example = replace(EXAMPLE, subjects=(EXAMPLE.subjects[0], wide, *EXAMPLE.subjects[2:]))
    prompt = UnimoG(replace_rate=1, text_only_rate=0, drop_rate=0).build(example, WHOLE, draws())
    assert [reference.name for reference in prompt.references] == ["subject1", "subject2", "subject3", "subject4"]
