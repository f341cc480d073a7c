from typing import Any

import pytest

from stages.base import Context, Drop, Fail
from stages.captioning import CaptioningParams
from stages.models.captioner import Answer
from stages.recaption import RecaptionIn
from tests.stages.told_captioner import Told, annotated, asker, picture


def records(*fields: dict[str, Any]) -> list[RecaptionIn]:
    return [RecaptionIn(**annotated(**one)) for one in fields]


def test_thin_pictures_are_dropped_and_not_asked_about() -> None:
    told = Told("a dog", "a cat")
    asked = records({}, {"image": picture(1, 51)}, {"image": picture(50, 1)}, {"image": picture(200, 1)})
    found = asker(told, CaptioningParams())(asked)
    assert found == [
        Answer("a dog", "stop"),
        Drop("too_thin", "1 x 51 pixels; max_aspect is 50.0"),
        Answer("a cat", "stop"),
        Drop("too_thin", "200 x 1 pixels; max_aspect is 50.0"),
    ]
    assert told.sizes == [(40, 60), (1, 50)]


def test_the_metadata_s_text_enters_the_prompt_clean_or_not_at_all() -> None:
    told = Told("a", "b", "c", "d")
    texts = [{"alt_text": text} for text in (" a\x00 &lt;dog&gt;\n", None, "", "犬 {alt_text}")]
    asker(told, CaptioningParams(), 'It says "{alt_text}". {"caption": …}')(records(*texts))
    said = ["a <dog>", "", "", "犬 {alt_text}"]
    assert told.prompts == [f'It says "{text}". {{"caption": …}}' for text in said]


def test_seeds_hang_on_the_key_and_the_run_alone() -> None:
    def seeds(*keys: str, seed: int = 0) -> list[int]:
        told = Told(*"abc")
        asker(told, CaptioningParams(), seed=seed)(records(*({"key": key} for key in keys)))
        return told.seeds

    assert seeds("r0", "r1", "r2") == [*seeds("r0"), *seeds("r2", "r1")[::-1]]
    assert len({*seeds("r0", "r1"), *seeds("r0", seed=1)}) == 3


def test_endings_without_text_have_their_reasons() -> None:
    for end, expected in (("nan", Fail("not_a_number")), ("no_room", Drop("prompt_too_long"))):
        assert asker(Told("", end=end), CaptioningParams())(records({})) == [expected]  # type: ignore[arg-type]


def test_no_record_is_no_question() -> None:
    assert asker(Told(), CaptioningParams())([]) == []


def test_a_model_has_to_be_named() -> None:
    with pytest.raises(ValueError, match="set model to"):
        type(asker(Told(), CaptioningParams())).load(CaptioningParams(), None, Context(), "test")
