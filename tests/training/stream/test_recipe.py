import json
from dataclasses import dataclass, replace

import pytest

from training.stream.buckets import Buckets
from training.stream.prompts.emma import Emma
from training.stream.prompts.mumu import Augment, Mumu
from training.stream.recipe import STREAM_RECIPES, StreamRecipe, changes

MUMU = STREAM_RECIPES["mumu"]()


@pytest.mark.parametrize("name", STREAM_RECIPES)
def test_settings_are_plain_json_that_names_the_builder_and_every_number(name):
    settings = STREAM_RECIPES[name]().settings()
    assert json.loads(json.dumps(settings)) == settings
    assert isinstance(settings["builder"], str)
    assert {"buckets.ratios", "buckets.base", "crop", "flip_rate", "max_pixels"} <= settings.keys()


def test_recipes_differ_in_their_digests_and_equal_ones_do_not():
    digests = {STREAM_RECIPES[name](512).digest for name in STREAM_RECIPES}
    assert len(digests) == len(STREAM_RECIPES)
    assert STREAM_RECIPES["mumu"]().digest == MUMU.digest


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        (replace(MUMU, flip_rate=0.5), "flip_rate: 0.0 -> 0.5"),
        (replace(MUMU, buckets=Buckets(base=512)), "buckets.base: 1024 -> 512"),
        (replace(MUMU, builder=Mumu(side=504)), "builder.side: 252 -> 504"),
        (replace(MUMU, builder=Mumu(augment=Augment(rate=0.5))), "builder.augment.rate: 0.2 -> 0.5"),
        (replace(MUMU, controls=("canny",)), "controls: [] -> ['canny']"),
    ],
)
def test_a_change_however_deep_has_a_name_and_another_digest(changed, line):
    assert changes(MUMU.settings(), changed.settings()) == (line,)
    assert changed.digest != MUMU.digest


@pytest.mark.parametrize(
    "recipe",
    [
        STREAM_RECIPES["lambda_eclipse"](),
        replace(STREAM_RECIPES["emma_face"](), builder=Emma(condition="face", network="adaface")),
        replace(MUMU, features=("caption_t5_states", "image_vae_latent")),
    ],
)
def test_flips_beside_features_of_pictures_are_refused(recipe):
    with pytest.raises(ValueError, match=r"flip_rate is 0\.5, but features of pictures .* leave flip_rate at 0"):
        replace(recipe, flip_rate=0.5)


@pytest.mark.parametrize("name", [name for name in STREAM_RECIPES if name != "lambda_eclipse"])
def test_flips_beside_features_of_texts_are_taken(name):
    assert replace(STREAM_RECIPES[name](), flip_rate=0.5, features=("caption_t5_states",)).flip_rate == 0.5


def test_another_builder_is_named():
    found = changes(STREAM_RECIPES["plain"](1024).settings(), MUMU.settings())
    assert "builder: Plain -> Mumu" in found
    assert "builder.side: None -> 252" in found


def test_a_builder_with_anything_but_plain_values_is_refused():
    @dataclass(frozen=True)
    class Odd:
        thing: object

        def build(self, example, framing, draws):
            raise NotImplementedError

    with pytest.raises(TypeError, match=r"builder\.thing"):
        StreamRecipe(builder=Odd(object())).settings()
