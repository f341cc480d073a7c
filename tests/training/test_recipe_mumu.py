from dataclasses import replace

import pytest
import torch

from benchmarks.training_cases import recipe_of
from training.families.mumu import MumuConfig
from training.fit.groups import choose, outlined
from training.plain import from_plain, to_plain
from training.recipe_mumu import MUMU
from training.recipes import RECIPES, TYPES
from training.stream.prompts.mumu import Mumu

RATES = {"mllm.network.model.connector": 3e-6, "mllm.network.model.text_model": 3e-6, "adapter": 1e-5, "unet": 5e-6}
"""The paper's table. The vision transformer is frozen."""


@pytest.mark.parametrize("name", ["mumu", "mumu_high"])
def test_stages_have_the_papers_figures(name):
    recipe = RECIPES[name]()
    modes = {group.names.removesuffix(".*"): group for group in recipe.groups}
    assert {stem: group.lr for stem, group in modes.items() if group.mode != "frozen"} == RATES
    assert modes["adapter"].mode == "full" and modes["mllm.network.model.vision_model"].mode == "frozen"
    assert {group.lora.rank for group in recipe.groups if group.lora} == {8}
    assert {group.lora.alpha for group in recipe.groups if group.lora} == {8.0}
    assert (recipe.family.steps, recipe.family.guidance_scale, recipe.family.vector) == (50, 6.0, "zeros")
    assert recipe.family.size == (1024, 1024)
    assert (recipe.optimiser.weight_decay, recipe.schedule.warmup) == (0.01, 1000)


def test_both_stages_look_at_as_many_tokens_of_pictures_and_train_300_000_steps():
    low, high = RECIPES["mumu"](), RECIPES["mumu_high"]()
    assert [(r.stream.builder.side // 14) ** 2 for r in (low, high)] == [324, 1296]
    assert 4 * 324 == 1296 and low.stream.builder.max_crops + 1 == 4 and high.stream.builder.max_crops == 1
    assert high.stream.builder.control_rate == 0
    assert low.steps + high.steps == 300_000


def test_the_second_stage_goes_on_with_the_same_network():
    low, high = RECIPES["mumu"](), RECIPES["mumu_high"]()
    assert replace(high.family, reader=replace(high.family.reader, side=252)) == low.family
    assert high.groups == low.groups


def test_at_full_size_847_million_parameters_train():
    family = outlined(recipe_of("mumu", None))
    trained = {name: p.numel() for name, p in family.named_parameters() if p.requires_grad}
    counts = {stem: sum(n for name, n in trained.items() if name.startswith(f"{stem}.")) for stem in RATES}
    assert counts == {
        "mllm.network.model.connector": 395_264,
        "mllm.network.model.text_model": 20_971_520,
        "adapter": 814_127_104,
        "unet": 11_612_160,
    }
    assert sum(counts.values()) == sum(trained.values())
    layers = {name.partition(".lora_")[0] for name in trained if name.startswith("unet")}
    assert len(layers) == 70 * 2 * 4  # of 70 transformer blocks two attentions each
    frozen = sum(p.numel() for name, p in family.unet.named_parameters() if "lora_" not in name)
    assert frozen == 2_567_463_684


@pytest.mark.parametrize("function", MUMU, ids=lambda function: function.__name__)
def test_recipes_are_plain_values_under_their_own_names(function):
    recipe = function()
    assert RECIPES[recipe.name] is function
    assert from_plain(to_plain(recipe), TYPES) == recipe
    assert isinstance(recipe.family, MumuConfig) and isinstance(recipe.stream.builder, Mumu)
    assert recipe.stream.builder.side == recipe.family.reader.side


def test_the_small_one_is_small_and_trains_whole():
    recipe = RECIPES["mumu_tiny"]()
    torch.manual_seed(0)
    family = recipe.family.build()
    choose(family, recipe.groups)
    assert all(p.requires_grad for p in family.parameters())
    assert sum(p.numel() for p in family.parameters()) < 2_000_000
