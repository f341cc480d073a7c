"""What the benchmark of learning measures of attention, and what its options choose."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import typer

from benchmarks.learning import _name, _recipe
from benchmarks.learning_attention import attention_mass
from benchmarks.learning_probe import given
from tests.training.batches import batch
from training.families.unimo_g import UnimoG
from training.modules.attention_loss import AttentionLoss
from training.noise import Noise
from training.recipe_unimo_g import unimo_g_tiny

TINY = unimo_g_tiny().family


@pytest.fixture(scope="module")
def tensors():
    return batch([2, 1, 0, 2])


def learnt(tensors, attention: AttentionLoss | None) -> UnimoG:
    torch.manual_seed(0)
    family = replace(TINY, attention=attention).build()
    optimiser = torch.optim.AdamW(family.parameters(), lr=4e-3)
    for step in range(15):
        optimiser.zero_grad()
        family(tensors, Noise(0, step % 2, range(4))).total.backward()
        optimiser.step()
    return family.eval()


def test_attention_that_has_learnt_nothing_is_spread_as_masks_are_large(tensors):
    torch.manual_seed(0)
    found = attention_mass(TINY.build().eval(), [tensors])
    assert found.area == pytest.approx(1 / 4)  # a reference's square is half as high and half as wide as the picture
    assert found.inside == pytest.approx(found.area, abs=0.02)


def test_the_attention_loss_draws_attention_to_the_subject_and_its_absence_is_measured_alike(tensors):
    on = learnt(tensors, AttentionLoss(weight=1.0, kind="balanced_l1"))
    off = learnt(tensors, None)
    assert attention_mass(on, [tensors]).inside > attention_mass(off, [tensors]).inside + 0.2


def test_without_references_there_is_no_mass():
    torch.manual_seed(0)
    found = attention_mass(TINY.build().eval(), [batch([0, 0])])
    assert np.isnan(found.inside) and np.isnan(found.area)


def test_features_in_float16_go_to_the_next_sample_under_bfloat16_too(tensors):
    vectors = torch.arange(4.0).half()[:, None]
    featured = replace(tensors, features={"subject0_clip_vector": vectors, "caption_clip_pooled": vectors})
    with torch.autocast("cpu", torch.bfloat16):
        wrong = given(featured, "wrong").features
    assert wrong["subject0_clip_vector"].flatten().tolist() == [3, 0, 1, 2]
    assert wrong["caption_clip_pooled"] is vectors


@pytest.mark.parametrize("name", ["unimo_g_shapes", "unimo_g_shapes_128"])
def test_the_attention_loss_can_be_weighed_otherwise_in_a_run_of_its_own(name):
    usual, off = _recipe(name, 5, None), _recipe(name, 5, 0.0)
    assert (off.family.attention.weight, off.steps) == (0, 5)
    assert replace(off, family=usual.family) == usual
    assert _name(off) != _name(usual)


def test_a_family_without_an_attention_loss_has_none_to_weigh():
    with pytest.raises(typer.BadParameter, match="lambda_eclipse_shapes has no attention loss"):
        _recipe("lambda_eclipse_shapes", None, 0.0)


def test_learning_from_shards_that_are_there_needs_no_engine():
    code = "import sys, benchmarks.learning; print({'ray', 'spacy', 'pipeline'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
