import pytest
import torch

from training.modules.unet import UnetSizes, build_unet
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights

ensure_torchvision()

from diffusers import UNet2DConditionModel  # noqa: E402

SIZES = UnetSizes(
    channels=(8, 16), attends=(True, False), layers=1, heads=2, context_dim=12, latent_channels=4, groups=4
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
