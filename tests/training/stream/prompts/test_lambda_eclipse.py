import pytest

from tests.training.stream.make import CAPTION, draw_record, draws, example_of, with_features
from training.stream.geometry import frame
from training.stream.prompts.lambda_eclipse import LambdaEclipse

EXAMPLE = example_of(with_features(draw_record()))
WHOLE = frame((96, 64), (96, 64), draws(), "centre")


def test_at_most_four_subjects_overwrite_their_head_nouns_from_features():
    prompt = LambdaEclipse(control_drop_rate=0).build(EXAMPLE, WHOLE, draws())
    subjects = [reference for reference in prompt.references if reference.role == "subject"]
    assert [reference.span.of(CAPTION) for reference in subjects] == ["man", "hat", "dog", "car"]
    assert [reference.features for reference in subjects] == [(f"subject{n}_bigg_vector",) for n in range(4)]
    assert all(reference.member is None for reference in prompt.references)
    assert prompt.text == CAPTION
    assert prompt.features == ("caption_bigg_states", "caption_bigg_pooled", "image_bigg_vector")


def test_the_control_is_a_feature_beside_the_text():
    prompt = LambdaEclipse(control_drop_rate=0).build(EXAMPLE, WHOLE, draws())
    assert prompt.references[0].features == ("canny_bigg_vector",)
    assert prompt.interleaved.images[0].insertion == "side"


def test_a_hundredth_loses_its_control_and_nothing_else():
    found = [LambdaEclipse().build(EXAMPLE, WHOLE, draws(str(n))) for n in range(20_000)]
    dropped = [prompt for prompt in found if prompt.is_control_dropped]
    assert len(dropped) / len(found) == pytest.approx(0.01, abs=0.003)
    assert {len(prompt.references) for prompt in dropped} == {4}
    assert {len(prompt.references) for prompt in found} == {4, 5}


def test_without_a_cache_the_references_are_pixels():
    prompt = LambdaEclipse(is_cached=False, control_drop_rate=0).build(EXAMPLE, WHOLE, draws())
    assert [reference.member for reference in prompt.references[:2]] == ["canny.png", "subject0.jpg"]
    assert not prompt.features and not any(reference.features for reference in prompt.references)
    assert {reference.side for reference in prompt.references} == {224}
