from dataclasses import replace

import pytest
import torch

from training.modules.unet import (
    SDXL_UNET,
    AddedSizes,
    UnetSizes,
    blocks_of,
    build_sdxl_unet,
    build_unet,
    pooled_dim_of,
)
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from diffusers import UNet2DConditionModel  # noqa: E402

SIZES = UnetSizes(
    channels=(8, 16), attends=(True, False), layers=1, heads=2, context_dim=12, latent_channels=4, groups=4
)
SDXL = replace(
    SIZES,
    attends=(False, True),
    heads=(1, 2),
    depth=(1, 2),
    is_linear=True,
    added=AddedSizes(pooled_dim=12, number_dim=4),
)
TINY = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 2,
    "cross_attention_dim": 12,
}


def test_it_comes_from_a_folder_or_fresh_in_its_sizes(tmp_path):
    unet = build_unet(SIZES)
    unet.half().save_pretrained(tmp_path)
    loaded = build_unet(Weights(name=str(tmp_path)))
    fresh = build_unet(Weights(name=str(tmp_path)), load=False)
    assert all(torch.equal(a.float(), b) for a, b in zip(unet.parameters(), loaded.parameters(), strict=True))
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in unet.parameters()]


def test_a_missing_one_is_told_with_the_remedy(tmp_path):
    for load in (True, False):
        with pytest.raises(OSError, match=r"must hold config\.json"):
            build_unet(Weights(name=str(tmp_path)), load=load)


def test_one_that_needs_more_than_a_context_is_told(tmp_path):
    UNet2DConditionModel(
        **TINY,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        addition_embed_type="text_time",
        addition_time_embed_dim=4,
        projection_class_embeddings_input_dim=36,
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="addition_embed_type='text_time' and needs more than a context"):
        build_unet(Weights(name=str(tmp_path)))


def test_one_whose_maps_cannot_be_taken_is_told(tmp_path):
    UNet2DConditionModel(
        **TINY,
        down_block_types=("SimpleCrossAttnDownBlock2D", "DownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("UpBlock2D", "SimpleCrossAttnUpBlock2D"),
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="attention maps can't be taken from down_blocks"):
        build_unet(Weights(name=str(tmp_path)))


def told(numbers=(64, 48, 0, 8, 32, 32), vector=0.0):
    return {"text_embeds": torch.full((2, 12), vector), "time_ids": torch.tensor([numbers, numbers])}


def test_one_as_sdxls_is_told_a_vector_and_six_numbers():
    torch.manual_seed(0)
    unet = build_sdxl_unet(SDXL).eval()
    assert pooled_dim_of(unet) == 12
    given = torch.randn(2, 4, 8, 8), torch.tensor([3, 9]), torch.randn(2, 5, 12)
    with torch.no_grad():
        found = [
            unet(*given, added_cond_kwargs=added).sample
            for added in (told(), told(), told(numbers=(32, 32, 0, 0, 32, 32)), told(vector=1.0))
        ]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2], atol=1e-4)
    assert not torch.allclose(found[0], found[3], atol=1e-4)


def test_one_as_sdxls_comes_from_a_folder_or_fresh_in_its_sizes(tmp_path):
    unet = build_sdxl_unet(SDXL)
    unet.save_pretrained(tmp_path)
    loaded = build_sdxl_unet(Weights(name=str(tmp_path)))
    assert all(torch.equal(a, b) for a, b in zip(unet.parameters(), loaded.parameters(), strict=True))
    fresh = build_sdxl_unet(Weights(name=str(tmp_path)), load=False)
    assert [p.shape for p in fresh.parameters()] == [p.shape for p in unet.parameters()]


def test_one_that_is_told_nothing_is_no_sdxls():
    with pytest.raises(ValueError, match="addition_embed_type=None and not 'text_time'; take SDXL's"):
        build_sdxl_unet(SIZES)


def test_sdxls_has_2567_million_parameters_and_its_blocks_are_nearly_all_of_it():
    with torch.device("meta"):
        unet = build_sdxl_unet(SDXL_UNET)
    assert sum(p.numel() for p in unet.parameters()) == 2_567_463_684
    assert pooled_dim_of(unet) == 1280
    assert [len(attention.transformer_blocks) for attention in unet.mid_block.attentions] == [10]
    attentions = [m for name, m in unet.named_modules() if name.endswith("attn2")]
    assert {(m.heads, m.inner_dim, m.cross_attention_dim) for m in attentions} == {(10, 640, 2048), (20, 1280, 2048)}
    held = sum(p.numel() for block in blocks_of(unet) for p in block.parameters())
    assert held > 0.98 * sum(p.numel() for p in unet.parameters())
