"""What is true of every family's builder."""

import pytest

from tests.training.stream.make import draw_record, draws, example_of, with_features
from training.stream.geometry import frame
from training.stream.prompts.base import Prompt
from training.stream.recipe import STREAM_RECIPES

EXAMPLE = example_of(with_features(draw_record()))
BARE = example_of(draw_record(subjects=0))
KEYS = [f"sample{n}" for n in range(300)]


def prompts(name: str, keys: list[str], epoch: int = 0, size: tuple[int, int] = (64, 64)) -> dict[str, Prompt]:
    builder = STREAM_RECIPES[name](512).builder
    found = {}
    for key in keys:
        of_sample = draws(key, epoch=epoch)
        found[key] = builder.build(EXAMPLE, frame((96, 64), size, of_sample), of_sample)
    return found


@pytest.mark.parametrize("name", STREAM_RECIPES)
def test_a_prompt_depends_on_key_epoch_and_seed_and_on_nothing_built_before(name):
    one, other = prompts(name, KEYS), prompts(name, KEYS[::-1])
    assert one == other
    assert name == "emma_style" or one != prompts(name, KEYS, epoch=1)


@pytest.mark.parametrize("name", STREAM_RECIPES)
def test_references_are_the_images_of_the_prompt_in_its_order(name):
    for prompt in prompts(name, KEYS).values():
        assert [image.member for image in prompt.interleaved.images] == [part.name for part in prompt.references]
        for reference in prompt.references:
            assert reference.member is None or reference.member in EXAMPLE.members
            assert reference.mask is None or reference.mask in EXAMPLE.members
            assert set(reference.features) <= {feature.name for feature in EXAMPLE.features}
        phrases = [image.phrase for image in prompt.interleaved.images]
        assert phrases == [part.span.of(prompt.caption) if part.span else "" for part in prompt.references]


@pytest.mark.parametrize("name", STREAM_RECIPES)
def test_what_is_dropped_is_gone(name):
    for prompt in prompts(name, KEYS).values():
        assert not (prompt.is_text_dropped and prompt.text)
        assert not (prompt.are_images_dropped and prompt.references)
        assert not (prompt.is_control_dropped and any(part.role == "control" for part in prompt.references))


@pytest.mark.parametrize("name", STREAM_RECIPES)
def test_no_subject_outside_the_crop_enters(name):
    for prompt in prompts(name, KEYS, size=(64, 128)).values():
        for reference in prompt.references:
            if reference.box is not None:
                assert min(reference.box[2], 64) > max(reference.box[0], 0)


@pytest.mark.parametrize("name", STREAM_RECIPES)
def test_a_picture_without_subjects_still_makes_a_prompt(name):
    builder = STREAM_RECIPES[name](512).builder
    found = [builder.build(BARE, frame((96, 64), (64, 64), draws(key)), draws(key)) for key in KEYS]
    assert any(prompt.text for prompt in found)
    assert not any(reference.role in ("subject", "head") for prompt in found for reference in prompt.references)
