"""What the benchmark of a training step trains, before it is timed."""

import pytest
import torch

from benchmarks.training_cases import SD15_UNET, Maker, fresh_family, recipe_of
from training.families.base import conditions_of
from training.fit.groups import choose
from training.modules.unet import build_unet
from training.stream.tensors import to_tensors

META = torch.device("meta")


def test_stable_diffusions_unet_has_its_published_size() -> None:
    with META:
        unet = build_unet(SD15_UNET, load=False)
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964


@pytest.mark.parametrize(
    "name", ["lambda_eclipse", "unimo_g_sd15", "unimo_g_instruct_512", "ella", "emma_object", "emma_face"]
)
def test_recipes_of_full_size_train_with_nothing_downloaded(name: str) -> None:
    recipe = recipe_of(name, micro_batch=2)
    choose(fresh_family(recipe, META), recipe.groups)


@pytest.mark.parametrize(
    "name",
    [
        "lambda_eclipse",
        "unimo_g_sd15",
        "mumu",
        "emma_object",
        "emma_style",
        "emma_face",
        "emma_portrait",
        "emma_region",
    ],
)
def test_made_up_batches_have_all_that_a_step_reads(name: str) -> None:
    recipe = recipe_of(name, micro_batch=3)
    first, second = Maker(recipe).batches(2)
    assert len(first) == len(second) == 3
    assert first.keys != second.keys
    tensors = to_tensors(first)
    for prompt, references in zip(first.prompts, conditions_of(tensors).references, strict=True):
        for reference, pixels in zip(prompt.references, references, strict=True):
            assert pixels is not None or set(reference.features) <= set(first.features)
    assert name != "unimo_g_sd15" or any(mask.any() for mask in tensors.masks)
