"""The recipes of EMMA and ELLA have the papers' figures."""

import pytest

from training.families.emma import EmmaConfig
from training.modules.agpr import EmmaCondition
from training.modules.ella import PAPER_ELLA
from training.plain import from_plain, to_plain
from training.recipe_emma import EMMA
from training.recipes import RECIPES, TYPES
from training.stream.prompts.emma import Emma

CONDITIONS = {
    "emma_object": ("object", "clip", 258, 224),
    "emma_style": ("style", "clip", 4, 224),
    "emma_face": ("face", "adaface", 4, 112),
    "emma_portrait": ("face", "clip", 258, 224),
    "emma_region": ("region", "clip", 258, 224),
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_conditions_are_learnt_as_the_paper_says(name: str) -> None:
    kind, network, tokens, side = CONDITIONS[name]
    recipe = RECIPES[name]()
    builder, family = recipe.stream.builder, recipe.family
    assert isinstance(builder, Emma) and isinstance(family, EmmaConfig)
    assert (builder.condition, builder.network, builder.side) == (kind, network, side)
    assert (builder.text_drop_rate, builder.image_drop_rate, builder.both_drop_rate) == (0.05, 0.05, 0.05)
    assert (recipe.batch_size, recipe.micro_batch, recipe.steps) == (256, 16, 200_000)
    assert (recipe.schedule.kind, recipe.schedule.warmup, recipe.schedule.warmup_from) == ("constant", 1000, 0.1)
    assert [(group.names, group.lr) for group in recipe.groups] == [("branches.*", 1e-4)]
    optimiser = recipe.optimiser
    assert (optimiser.betas, optimiser.eps, optimiser.weight_decay, optimiser.max_norm) == ((0.9, 0.999), 1e-8, 0.01, 1)
    assert recipe.stream.buckets.sizes == (family.size,) == ((512, 512),)
    assert (family.ella, family.text.length) == (PAPER_ELLA, 128)
    assert (family.steps, family.guidance_scale) == (50, 7.5)
    (condition,) = family.conditions
    assert (condition.network, condition.tokens, condition.scale, condition.strength) == (network, tokens, 1, 0)
    assert (condition.encoder is None) == (network == "adaface")


@pytest.mark.parametrize("name", CONDITIONS)
def test_the_stream_asks_for_the_features_that_the_condition_reads(name: str) -> None:
    recipe = RECIPES[name]()
    builder, family = recipe.stream.builder, recipe.family
    assert isinstance(builder, Emma) and isinstance(family, EmmaConfig)
    local = family.conditions[0].local_dim is not None
    assert builder.outputs == (("vector", "tokens") if local else ("vector",))
    assert builder.text_features == (family.text_feature,)
    assert not builder.is_decoded and not recipe.stream.masks
    models = ("google/flan-t5-xl", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K")
    assert recipe.stream.feature_model == (None if builder.network == "adaface" else models)


def test_portraits_go_on_from_objects_and_from_regions() -> None:
    portrait, *others = (RECIPES[name]().family for name in ("emma_portrait", "emma_object", "emma_region"))
    assert others == [portrait, portrait]


def test_ella_trains_its_connector_alone_at_the_papers_rate() -> None:
    recipe = RECIPES["ella"]()
    assert isinstance(recipe.family, EmmaConfig)
    assert recipe.family.conditions == ()
    assert [(group.names, group.lr) for group in recipe.groups] == [("ella.*", 1e-4)]
    assert (recipe.steps, recipe.optimiser.weight_decay, recipe.schedule.kind) == (280_000, 0.01, "constant")


@pytest.mark.parametrize("function", EMMA, ids=lambda function: function.__name__)
def test_recipes_are_plain_values_under_their_own_names(function) -> None:
    recipe = function()
    assert RECIPES[recipe.name] is function
    assert from_plain(to_plain(recipe), TYPES) == recipe


def test_a_composed_family_is_of_plain_values_too() -> None:
    first, second = RECIPES["emma_object"]().family, RECIPES["emma_style"]().family
    assert isinstance(first, EmmaConfig)
    both = first.composed([second, first], [1.0, 0.5, 0.25])
    assert [(each.name, each.scale) for each in both.config.conditions] == [
        ("object", 1.0),
        ("style", 0.5),
        ("object2", 0.25),
    ]
    assert both.names[2] == {"branches.object.": "branches.object2."}
    assert from_plain(to_plain(both.config), TYPES) == both.config


def test_what_stands_on_another_model_can_not_be_put_together() -> None:
    first, other = RECIPES["emma_object"]().family, RECIPES["emma_tiny"]().family
    assert isinstance(first, EmmaConfig)
    with pytest.raises(ValueError, match=r"these runs don't stand on the same model: .*ella\.width: 768 -> 32"):
        first.composed([other], [1, 1])
    with pytest.raises(ValueError, match="a UnimoG can't be put together with an Emma"):
        first.composed([RECIPES["unimo_g_tiny"]().family], [1, 1])


def test_a_condition_is_a_tuple_of_its_own() -> None:
    assert EmmaCondition(name="face", local_dim=None, vector_tokens=4).tokens == 4
