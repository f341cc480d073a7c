"""U-Nets of diffusers that look at a context: from weights, or of stated sizes with fresh ones."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from training.modules.attention_maps import let_capture
from training.modules.diffusers_weights import diffusers_model
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class UnetSizes:
    """Sizes of a U-Net as Stable Diffusion has it, with fresh weights.

    Attributes:
        channels: Of each level; each but the first halves the sides.
        attends: Which levels have transformer blocks.
        layers: Residual blocks a level, on the way down.
        heads: Of attention, at every level.
        context_dim: Width of the context.
        latent_channels: In and out.
        groups: Of its norms.
    """

    channels: tuple[int, ...]
    attends: tuple[bool, ...]
    layers: int
    heads: int
    context_dim: int
    latent_channels: int
    groups: int = 32


PAPER_UNET = UnetSizes(
    channels=(640, 1280, 1280, 2560, 2560),
    attends=(True, True, True, True, False),
    layers=2,
    heads=16,
    context_dim=4096,
    latent_channels=4,
)
"""UNIMO-G's, of 4,028,805,764 parameters.

Source: Li et al. 2024, "UNIMO-G", version 2, appendix: five levels of these channels, cross-attention of 4096, 16
heads, 4B. The number of layers and which level has no attention are Stable Diffusion's; with them the count fits.
"""

UnetSource: TypeAlias = Weights | UnetSizes
"""Which U-Net."""


def build_unet(source: UnetSource, load: bool = True) -> Any:
    """The U-Net, float32; cross-attention maps can be taken from it.

    Raises:
        OSError: If weights are not there.
        ValueError: If it needs more than a context, or maps can't be taken from it.
    """
    ensure_torchvision()
    from diffusers import UNet2DConditionModel

    if isinstance(source, UnetSizes):
        unet = UNet2DConditionModel(**_config(source))
    else:
        unet = diffusers_model(UNet2DConditionModel, source, load, torch_dtype=torch.float32)
    _check_context_alone(unet.config)
    let_capture(unet)
    return unet


def _config(sizes: UnetSizes) -> dict[str, Any]:
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in sizes.attends)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(sizes.attends))
    return {
        "in_channels": sizes.latent_channels,
        "out_channels": sizes.latent_channels,
        "block_out_channels": sizes.channels,
        "down_block_types": down,
        "up_block_types": up,
        "layers_per_block": sizes.layers,
        "attention_head_dim": sizes.heads,  # the number of heads, by an old misnomer of diffusers
        "cross_attention_dim": sizes.context_dim,
        "norm_num_groups": sizes.groups,
    }


def _check_context_alone(config: Any) -> None:
    for name in ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type"):
        if config[name] is not None:
            raise ValueError(
                f"the U-Net has {name}={config[name]!r} and needs more than a context of tokens; "
                "take one without, such as Stable Diffusion 1.5's or 2.1's"
            )
