import pytest

from tests.training.stream.make import CAPTION, draw_record, draws, example_of
from training.stream.geometry import frame
from training.stream.prompts.emma import Emma

EXAMPLE = example_of(draw_record())
WHOLE = frame((96, 64), (96, 64), draws(), "centre")
KEEP = {"image_drop_rate": 0, "text_drop_rate": 0, "both_drop_rate": 0}


@pytest.mark.parametrize(
    ("condition", "name", "member", "mask"),
    [
        ("object", "region0", "region0.jpg", "region0.mask.png"),
        ("region", "region1", "region1.jpg", None),
        ("face", "face0", "face0.jpg", None),
        ("style", "image", "jpg", None),
    ],
)
def test_each_condition_has_its_image_beside_the_text(condition, name, member, mask):
    prompt = Emma(condition=condition, **KEEP).build(EXAMPLE, WHOLE, draws())
    (reference,) = prompt.references
    assert (reference.name, reference.member, reference.mask) == (name, member, mask)
    assert [image.insertion for image in prompt.interleaved.images] == ["side"]
    assert prompt.text == CAPTION


def test_image_text_and_both_are_dropped_a_twentieth_each():
    count = 10_000
    found = [Emma(condition="object").build(EXAMPLE, WHOLE, draws(str(n))) for n in range(count)]
    for kind in ((True, False), (False, True), (True, True)):
        share = sum((prompt.is_text_dropped, prompt.are_images_dropped) == kind for prompt in found) / count
        assert share == pytest.approx(0.05, abs=0.008)
    for prompt in found:
        assert prompt.text == ("" if prompt.is_text_dropped else CAPTION)
        assert len(prompt.references) == (not prompt.are_images_dropped)


def test_features_are_asked_for_by_the_engines_names_and_not_of_dropped_text():
    builder = Emma(
        condition="object",
        network="clip",
        text_features=("caption_t5_states",),
        is_decoded=False,
        text_drop_rate=0.5,
        image_drop_rate=0,
        both_drop_rate=0,
    )
    for n in range(50):
        prompt = builder.build(EXAMPLE, WHOLE, draws(str(n)))
        assert prompt.references[0].features == ("region0_clip_vector", "region0_clip_tokens")
        assert prompt.references[0].member is None
        assert prompt.features == (() if prompt.is_text_dropped else ("caption_t5_states",))


def test_a_picture_without_the_condition_is_text_alone_and_its_features_are_of_the_caption():
    builder = Emma(condition="face", text_features=("caption_t5_states",), variant_rate=1.0, **KEEP)
    bare = example_of(draw_record(subjects=0))
    bare = type(bare)(**{**{n: getattr(bare, n) for n in bare.__slots__}, "faces": ()})
    found = [builder.build(bare, WHOLE, draws(str(n))) for n in range(50)]
    assert {(prompt.text == CAPTION, prompt.features) for prompt in found} == {
        (True, ("caption_t5_states",)),
        (False, ()),
    }
