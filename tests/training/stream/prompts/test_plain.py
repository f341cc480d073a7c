import pytest

from tests.training.stream.make import CAPTION, draw_record, draws, example_of
from training.stream.geometry import frame
from training.stream.prompts.plain import Plain

EXAMPLE = example_of(draw_record())
WHOLE = frame((96, 64), (96, 64), draws(), "centre")


def test_a_plain_prompt_is_the_caption_but_for_the_dropped():
    texts = [Plain().build(EXAMPLE, WHOLE, draws(str(n))).text for n in range(4000)]
    assert set(texts) == {CAPTION, ""}
    assert texts.count("") / len(texts) == pytest.approx(0.1, abs=0.02)
