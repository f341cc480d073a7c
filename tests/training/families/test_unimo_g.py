"""The tiny UNIMO-G: what it learns, and that pictures and samples are their own whatever is beside them."""

from dataclasses import replace

import pytest
import torch

from tests.training.batches import batch
from tests.training.families.overfit import overfit
from training.diffusion.sampler import Guidance
from training.encoders.blip2 import Blip2, Blip2Sizes
from training.families.base import Conditions, Family, SampleConfig, conditions_of
from training.families.branches import in_branches, without_images
from training.fit.groups import choose
from training.modules.attention_loss import AttentionLoss
from training.modules.autoencoder import SD_KL, KlSizes, PixelSizes
from training.modules.unet import PAPER_UNET, UnetSizes, build_unet
from training.noise import Noise
from training.recipe_unimo_g import unimo_g_tiny

TINY = unimo_g_tiny().family
FEW = SampleConfig(steps=4, seed=3)


@pytest.fixture(scope="module")
def family():
    torch.manual_seed(0)
    return TINY.build().eval()


@pytest.fixture(scope="module")
def tensors():
    return batch([2, 1, 0, 2])


def part(tensors, *numbers):
    """Conditions of some samples."""
    whole = conditions_of(tensors)
    return Conditions(
        prompts=tuple(whole.prompts[n] for n in numbers),
        references=tuple(whole.references[n] for n in numbers),
        features={},
    )


def test_it_is_a_family_of_a_third_of_a_million_parameters(family):
    assert isinstance(family, Family)
    assert 300_000 < sum(p.numel() for p in family.parameters()) < 400_000


def test_it_overfits_a_batch_and_every_parameter_gets_a_gradient(tensors):
    torch.manual_seed(0)
    losses = overfit(TINY.build(), tensors)
    assert losses[0] > 0.9
    assert max(losses[-2:]) < 0.4  # of 8 draws of noise by heart


def test_frozen_parts_get_no_gradient_and_no_graph(tensors):
    family = TINY.build()
    choose(
        family,
        (replace(unimo_g_tiny().groups[0], names="unet.*"), replace(unimo_g_tiny().groups[0], names="connector.*")),
    )
    family(tensors, Noise(0, 0, range(4))).total.backward()
    assert all(p.grad is None for p in family.mllm.parameters())
    assert all(p.grad is not None for p in (*family.unet.parameters(), *family.connector.parameters()))


def test_the_total_is_the_weighted_sum_and_terms_are_detached(family, tensors):
    found = family(tensors, Noise(0, 0, range(4)))
    assert sorted(found.terms) == ["attention", "cut", "denoising"]
    torch.testing.assert_close(found.total.detach(), found.terms["denoising"] + 0.01 * found.terms["attention"])
    assert not any(term.requires_grad for term in found.terms.values())


def test_the_loss_of_a_batch_is_the_mean_of_its_parts(family, tensors):
    with torch.no_grad():
        whole = family(tensors, Noise(0, 0, range(4)))
        halves = [family(batch([2, 1, 0, 2][n : n + 1], first=n), Noise(0, 0, range(n, n + 1))) for n in range(4)]
    for name, term in whole.terms.items():
        mean = torch.stack([half.terms[name] for half in halves]).mean()
        torch.testing.assert_close(term, mean, atol=1e-5, rtol=1e-4)  # sums of another order


def test_text_to_image_takes_no_maps(tensors):
    family = replace(TINY, attention=None).build()
    assert sorted(family(tensors, Noise(0, 0, range(4))).terms) == ["cut", "denoising"]


def test_a_batch_without_any_reference_has_no_attention_loss(family):
    with torch.no_grad():
        assert family(batch([0, 0]), Noise(0, 0, range(2))).terms["attention"] == 0


def test_pictures_that_are_not_square_are_learnt_and_drawn(family):
    wide = batch([2, 1], size=(64, 32))
    with torch.no_grad():
        assert family(wide, Noise(0, 0, range(2))).total.isfinite()
    assert family.sample(part(wide, 0), replace(FEW, size=(64, 32))).shape == (1, 32, 64, 3)


def test_prompts_that_are_too_long_are_cut_and_counted(tensors):
    family = replace(TINY, reader=replace(TINY.reader, max_tokens=20)).build()
    with torch.no_grad():
        assert family(tensors, Noise(0, 0, range(4))).terms["cut"] == 1
    with pytest.raises(ValueError, match="the prompt '<subject0> beside <subject1>' has 21 tokens"):
        family.sample(part(tensors, 0), FEW)


def test_a_picture_is_drawn_alike_beside_any_others(family, tensors):
    whole = family.sample(conditions_of(tensors), FEW)
    alone = family.sample(part(tensors, 2), FEW, first=2)
    assert (whole[2:3].int() - alone.int()).abs().max() <= 1  # of 255: sums of another order
    assert torch.equal(whole, family.sample(conditions_of(tensors), FEW))
    assert not torch.equal(whole, family.sample(conditions_of(tensors), replace(FEW, seed=4)))


def test_guidance_of_1_asks_for_no_null_prompt(family, tensors):
    plain = family.sample(part(tensors, 0), replace(FEW, guidance_scale=1.0))
    guided = family.sample(part(tensors, 0), replace(FEW, guidance_scale=5.0))
    assert not torch.equal(plain, guided)


def test_text_and_images_guided_alike_are_guided_as_one(family, tensors):
    as_one = family.sample(part(tensors, 0), replace(FEW, guidance_scale=3.0))
    apart = family.sample(part(tensors, 0), replace(FEW, guidance_scale=3.0, image_guidance_scale=3.0))
    other = family.sample(part(tensors, 0), replace(FEW, guidance_scale=3.0, image_guidance_scale=9.0))
    assert (as_one.int() - apart.int()).abs().max() <= 1
    assert not torch.equal(as_one, other)


def test_branches_are_nothing_then_words_then_all(tensors):
    branches = in_branches(part(tensors, 0), Guidance(scale=2.0, image_scale=2.0))
    assert [prompt.interleaved.render() for prompt in branches.prompts] == [
        "",
        "a square beside another one",
        "<subject0> beside <subject1>",
    ]
    assert [len(row) for row in branches.references] == [0, 0, 2]


def test_a_prompt_in_words_says_what_its_images_stand_for(tensors):
    prompt = tensors.batch.prompts[0]
    assert without_images(prompt).interleaved.caption == prompt.caption
    assert not without_images(prompt).interleaved.images


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "steps must be 1 to 1000"),
        ({"steps": 1001}, "steps must be 1 to 1000"),
        ({"guidance_scale": 0.0}, "guidance scale must be 1"),
        ({"image_guidance_scale": -1.0}, "image guidance scale must be 0"),
        ({"size": (33, 32)}, "multiples of 2, got 33 x 32"),
        ({"size": (0, 32)}, "multiples of 2, got 0 x 32"),
    ],
)
def test_settings_out_of_range_are_told(family, tensors, settings, message):
    with pytest.raises(ValueError, match=message):
        family.sample(part(tensors, 0), replace(FEW, **settings))


def test_its_units_are_blocks_of_the_unet_and_layers_of_the_reader(family):
    names = [type(unit).__name__ for unit in family.units()]
    assert {"ResnetBlock2D", "Transformer2DModel", "Qwen2_5_VLDecoderLayer"} == set(names)
    held = {id(p) for unit in family.units() for p in unit.parameters()}
    assert len(held) > 0.6 * len(list(family.parameters()))  # all but what reads pictures, samplers and ends


def test_a_blip2_and_a_real_autoencoder_fit_as_well():
    sizes = Blip2Sizes(
        width=32, layers=1, heads=2, vision_width=32, vision_layers=1, side=16, patch=8, tokens_per_image=4
    )
    config = replace(
        TINY,
        reader=Blip2(source=sizes),
        unet=replace(TINY.unet, latent_channels=4),
        autoencoder=KlSizes(channels=(8, 8), layers=1, latent_channels=4, groups=4, scaling_factor=0.2),
    )
    family = config.build().eval()
    family(batch([2, 0]), Noise(0, 0, range(2))).total.backward()
    assert all(p.grad is None and not p.requires_grad for p in family.autoencoder.parameters())
    assert family.sample(part(batch([2]), 0), FEW).shape == (1, 32, 32, 3)


def test_channels_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="the U-Net's in_channels are 12, the autoencoder's latents have 3 channels"):
        replace(TINY, autoencoder=PixelSizes(patch=1)).build()


def test_the_papers_unet_has_4029_million_parameters():
    with torch.device("meta"):
        unet = build_unet(PAPER_UNET)
    assert sum(p.numel() for p in unet.parameters()) == 4_028_805_764
    assert unet.config.cross_attention_dim == 4096
    assert {block.attn2.heads for block in unet.modules() if hasattr(block, "attn2")} == {16}


def test_stable_diffusions_parts_have_as_many_parameters_as_published():
    sd15 = UnetSizes(
        channels=(320, 640, 1280, 1280),
        attends=(True, True, True, False),
        layers=2,
        heads=8,
        context_dim=768,
        latent_channels=4,
    )
    with torch.device("meta"):
        family = replace(TINY, unet=sd15, autoencoder=SD_KL, attention=AttentionLoss()).build(load=False)
    assert sum(p.numel() for p in family.unet.parameters()) == 859_520_964
    assert sum(p.numel() for p in family.autoencoder.parameters()) == 83_653_863
    assert family.connector.project.out_features == 768
