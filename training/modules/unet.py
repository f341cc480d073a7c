"""U-Nets of diffusers that look at a context: from weights, or of stated sizes with fresh ones."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import nn

from training.modules.attention_maps import let_capture
from training.modules.autoencoder import Autoencoder
from training.modules.diffusers_weights import diffusers_model
from training.modules.framing import NUMBERS
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedSizes:
    """What a U-Net as SDXL has it is told of the whole picture, beside the timestep.

    Attributes:
        pooled_dim: Width of a vector of the whole prompt.
        number_dim: Width that each of six numbers, which say how the picture was framed, is embedded in.
    """

    pooled_dim: int
    number_dim: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnetSizes:
    """Sizes of a U-Net as Stable Diffusion has it, with fresh weights.

    Attributes:
        channels: Of each level; each but the first halves the sides.
        attends: Which levels have transformer blocks.
        layers: Residual blocks a level, on the way down.
        heads: Of attention, at every level, or of each.
        context_dim: Width of the context.
        latent_channels: In and out.
        groups: Of its norms.
        depth: Transformer blocks one after another, at every level, or of each. Source of more than one: SDXL.
        is_linear: Whether linear layers lead into transformers and out of them, as in SDXL, and not convolutions.
        added: What it is told beside the context; ``None``: nothing.
    """

    channels: tuple[int, ...]
    attends: tuple[bool, ...]
    layers: int
    heads: int | tuple[int, ...]
    context_dim: int
    latent_channels: int
    groups: int = 32
    depth: int | tuple[int, ...] = 1
    is_linear: bool = False
    added: AddedSizes | None = None


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

SDXL_UNET = UnetSizes(
    channels=(320, 640, 1280),
    attends=(False, True, True),
    layers=2,
    heads=(5, 10, 20),
    context_dim=2048,
    latent_channels=4,
    depth=(1, 2, 10),
    is_linear=True,
    added=AddedSizes(pooled_dim=1280, number_dim=256),
)
"""SDXL's, of 2,567,463,684 parameters.

Source: Podell et al. 2023, "SDXL", table 1, and the published ``unet/config.json``.
"""

UnetSource: TypeAlias = Weights | UnetSizes
"""Which U-Net."""

_BESIDE = ("addition_embed_type", "class_embed_type", "encoder_hid_dim_type")
"""What a configuration says of conditions beside the context."""


def build_unet(source: UnetSource, load: bool = True) -> Any:
    """The U-Net, float32; cross-attention maps can be taken from it.

    Raises:
        OSError: If weights are not there.
        ValueError: If it needs more than a context, or maps can't be taken from it.
    """
    unet = _built(source, load)
    _check_beside(unet.config, None, "take one without, such as Stable Diffusion 1.5's or 2.1's")
    let_capture(unet)
    return unet


def build_sdxl_unet(source: UnetSource, load: bool = True) -> Any:
    """A U-Net, float32, that is told a vector and six numbers beside its context, as SDXL's.

    Raises:
        OSError: If weights are not there.
        ValueError: If it is told anything else, or nothing.
    """
    unet = _built(source, load)
    _check_beside(unet.config, "text_time", "take SDXL's or one of its kind")
    return unet


def pooled_dim_of(unet: Any) -> int:
    """Width of the vector that a U-Net as SDXL's is told: what its six embedded numbers leave of the whole."""
    whole: int = unet.config.projection_class_embeddings_input_dim
    return whole - NUMBERS * int(unet.config.addition_time_embed_dim)


def blocks_of(unet: Any) -> tuple[nn.Module, ...]:
    """A U-Net's residual blocks and transformers."""
    blocks = (*unet.down_blocks, unet.mid_block, *unet.up_blocks)
    return tuple(part for block in blocks for part in (*block.resnets, *getattr(block, "attentions", ())))


def check_channels(unet: Any, autoencoder: Autoencoder) -> None:
    """See that a U-Net, by its configuration, takes and gives an autoencoder's latents.

    Raises:
        ValueError: If it doesn't.
    """
    for name in ("in_channels", "out_channels"):
        if unet[name] != autoencoder.channels:
            raise ValueError(
                f"the U-Net's {name} are {unet[name]}, the autoencoder's latents have {autoencoder.channels} channels"
            )


def _built(source: UnetSource, load: bool) -> Any:
    ensure_torchvision()
    from diffusers import UNet2DConditionModel

    if isinstance(source, UnetSizes):
        return UNet2DConditionModel(**_config(source))
    return diffusers_model(UNet2DConditionModel, source, load, torch_dtype=torch.float32)


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
        "transformer_layers_per_block": sizes.depth,
        "use_linear_projection": sizes.is_linear,
        **({} if sizes.added is None else _added(sizes.added)),
    }


def _added(sizes: AddedSizes) -> dict[str, Any]:
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": sizes.number_dim,
        "projection_class_embeddings_input_dim": sizes.pooled_dim + NUMBERS * sizes.number_dim,
    }


def _check_beside(config: Any, addition: str | None, remedy: str) -> None:
    for name, wanted in zip(_BESIDE, (addition, None, None), strict=True):
        if config[name] != wanted:
            needs = "needs more than a context of tokens" if addition is None else f"not {wanted!r}"
            raise ValueError(f"the U-Net has {name}={config[name]!r} and {needs}; {remedy}")
