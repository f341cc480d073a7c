from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from manifests.record import Annotation, ModelUse, Span
from stages.base import Context, Drop, Fail
from stages.recaption import Recaption, RecaptionIn, RecaptionOut, RecaptionParams
from tests.stages.models.tiny_captioner import save
from tests.stages.told_captioner import Told, annotated, asker, picture

Result = RecaptionOut | Drop | Fail


def record(**fields: Any) -> RecaptionIn:
    return RecaptionIn(**annotated(**fields))


def told(text: str, end: Literal["stop", "cut", "nan", "no_room"] = "stop", **params: Any) -> Result:
    given = RecaptionParams(**params)
    (result,) = Recaption(given, asker(Told(text, end=end), given)).process([record()])
    return result


def outcome(result: Result) -> str:
    return result.caption if isinstance(result, RecaptionOut) else result.reason


def test_the_model_s_words_become_the_caption_and_annotations_lose_their_spans() -> None:
    box = {"x0": 0.1, "y0": 0.1, "x1": 0.5, "y1": 0.5}
    said = Annotation(phrase="alt text", span=Span(start=3, end=11), **box)
    params = RecaptionParams()
    stage = Recaption(params, asker(Told("The image shows a  dog."), params))
    (out,) = stage.process([record(annotations=(said, Annotation(phrase="dog", **box)))])
    assert out == RecaptionOut(
        caption="A dog.", annotations=(Annotation(phrase="alt text", **box), Annotation(phrase="dog", **box))
    )


@pytest.mark.parametrize(
    ("text", "unfinished", "expected"),
    [
        ("A dog runs. It is", "drop", "unfinished_caption"),
        ("A dog runs. It is", "cut", "A dog runs."),
        ("A dog runs. It is", "keep", "A dog runs. It is"),
        ('He says "go!" A dog and', "cut", 'He says "go!"'),
        ("A hat of 2.5 kg and", "cut", "unfinished_caption"),
        ("犬がいる。猫が", "cut", "犬がいる。"),
        ("A dog that", "cut", "unfinished_caption"),
        ("", "cut", "unfinished_caption"),
    ],
)
def test_what_max_new_tokens_cut_is_treated_as_told(text: str, unfinished: str, expected: str) -> None:
    assert outcome(told(text, "cut", unfinished=unfinished)) == expected


def test_every_reason_it_gives_is_explained() -> None:
    answers: Sequence[tuple[str, Any]] = [
        ("", "stop"), ("ab", "stop"), ("dog " * 1000, "stop"), ("a a a a a", "stop"), ("x", "cut"), ("", "nan"),
        ("", "no_room"),
    ]  # fmt: skip
    found = [outcome(told(text, end)) for text, end in answers]
    assert {*found, "too_thin"} == Recaption.reasons.keys()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save("qwen3_vl", tmp_path_factory.mktemp("recaption")))


def records() -> list[RecaptionIn]:
    sizes = [(60, 40), (40, 60), (60, 40), (1, 99), (64, 64)]
    texts = ["a dog", None, "a <|image_pad|> hat " * 4, "", "犬"]
    return [
        record(key=f"r{n}", image=picture(*size, n), alt_text=text)
        for n, (size, text) in enumerate(zip(sizes, texts, strict=True))
    ]


def test_from_a_folder_to_captions_however_records_are_batched(folder: str) -> None:
    stage = Recaption.load(
        RecaptionParams(
            model=folder, prompt="what is this {alt_text}", max_new_tokens=6, unfinished="keep", images_per_call=2
        ),
        Context(),
    )
    together = stage.process(records())
    assert [type(result) for result in together] == [RecaptionOut] * 3 + [Drop] + [RecaptionOut]
    assert len(set(map(outcome, together))) > 3
    assert stage.process(records()[::-1]) == together[::-1]
    assert [stage.process([one])[0] for one in records()[1:4]] == together[1:4]


def test_sampling_repeats_with_the_seed_and_the_key_only(folder: str) -> None:
    params = RecaptionParams(model=folder, temperature=1.5, max_new_tokens=5, unfinished="keep", images_per_call=2)
    same = [record(key=key) for key in "abcb"]
    found = Recaption.load(params, Context(seed=7)).process(same)
    assert found[1] == found[3] and len(set(map(outcome, found))) == 3
    assert Recaption.load(params, Context(seed=7)).process(same[2:0:-1]) == found[2:0:-1]
    assert Recaption.load(params, Context(seed=8)).process(same) != found


def test_the_model_is_known_by_its_bytes_and_has_to_be_named(folder: str, tmp_path: Path) -> None:
    (use,) = Recaption.models(RecaptionParams(model=folder))
    assert use == ModelUse(name=folder, revision=use.revision) and use.revision.startswith("sha256:")
    with pytest.raises(ValueError, match="no model: set model to"):
        Recaption.models(RecaptionParams())
    with pytest.raises(ValueError, match=f"there is no {tmp_path}/none"):
        Recaption.models(RecaptionParams(model=f"{tmp_path}/none"))
