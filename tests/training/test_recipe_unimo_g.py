import pytest

from training.families.unimo_g import UnimoGConfig
from training.fit.groups import choose
from training.plain import from_plain, to_plain
from training.recipe_unimo_g import UNIMO_G
from training.recipes import RECIPES, TYPES

SQUARES_256, SQUARES_512 = ((256, 256),), ((512, 512),)
FIVE_512 = ((384, 704), (448, 576), (512, 512), (640, 448), (704, 384))
FIVE_1024 = ((704, 1472), (896, 1152), (1024, 1024), (1280, 832), (1472, 704))
PHASES = {
    "unimo_g_t2i_256": (SQUARES_256, 100_000, 10_240, 5e-5, False),
    "unimo_g_300m_256": (SQUARES_256, 500_000, 10_240, 5e-5, False),
    "unimo_g_300m_512": (SQUARES_512, 200_000, 3_072, 5e-5, False),
    "unimo_g_refined_512": (FIVE_512, 100_000, 3_072, 1e-5, False),
    "unimo_g_refined_1024": (FIVE_1024, 100_000, 3_072, 1e-5, False),
    "unimo_g_instruct_512": (FIVE_512, 100_000, 3_072, 1e-5, True),
    "unimo_g_instruct_1024": (FIVE_1024, 100_000, 3_072, 1e-5, True),
}


@pytest.mark.parametrize("name", PHASES)
def test_phases_have_the_papers_figures(name):
    sizes, steps, batch_size, lr, has_references = PHASES[name]
    recipe = RECIPES[name]()
    assert recipe.stream.buckets.sizes == sizes
    assert (recipe.steps, recipe.batch_size) == (steps, batch_size)
    assert {group.lr for group in recipe.groups} == {lr}
    assert recipe.optimiser.weight_decay == 0.01
    assert (recipe.family.attention is not None) == has_references == recipe.stream.masks
    assert recipe.family.size in sizes
    assert (recipe.family.steps, recipe.family.guidance_scale) == (50, 5.0)


def test_phases_after_the_first_go_on_with_the_same_network():
    networks = {(RECIPES[name]().family.unet, RECIPES[name]().family.reader) for name in PHASES}
    assert len(networks) == 1


@pytest.mark.parametrize("function", UNIMO_G, ids=lambda function: function.__name__)
def test_recipes_are_plain_values_under_their_own_names(function):
    recipe = function()
    assert RECIPES[recipe.name] is function
    assert from_plain(to_plain(recipe), TYPES) == recipe
    assert isinstance(recipe.family, UnimoGConfig)
    if recipe.stream.masks:
        assert recipe.stream.builder.side == recipe.family.reader.side


@pytest.mark.parametrize("name", ["unimo_g_tiny", "unimo_g_shapes"])
def test_small_ones_are_small_and_train_whole(name):
    recipe = RECIPES[name]()
    family = recipe.family.build()
    choose(family, recipe.groups)
    assert all(p.requires_grad for p in family.parameters())
    assert sum(p.numel() for p in family.parameters()) < 2_100_000
