"""Kandinsky 2.2's decoder: from the CLIP vector of a picture to the picture."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from training.modules.autoencoder import Pixels, PixelSizes, check_sides, to_pictures, to_signed
from training.modules.diffusers_weights import diffusers_model
from training.noise import Noise
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True)
class KandinskySizes:
    """Sizes of a U-Net as Kandinsky 2.2 has it, with fresh weights.

    Attributes:
        channels: Of each level; the first has no attention.
        layers: Residual blocks a level, on the way down.
        head_dim: Channels of a head.
        context_dim: Width of the tokens that the vector becomes.
        vector_dim: Of CLIP's vector.
        latent_channels: In; twice as many out, the second half being the variance.
        groups: Of its norms.
    """

    channels: tuple[int, ...]
    layers: int
    head_dim: int
    context_dim: int
    vector_dim: int
    latent_channels: int
    groups: int = 32


KANDINSKY_UNET = KandinskySizes(
    channels=(384, 768, 1152, 1536),
    layers=3,
    head_dim=64,
    context_dim=768,
    vector_dim=1280,
    latent_channels=4,
)
"""Kandinsky 2.2's: 1,253 million parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MovqSizes:
    """Sizes of a MOVQ with fresh weights; channels are multiples of 32, as its norms want.

    Attributes:
        channels: Of each level; each but the first halves the sides. The last level has attention.
        layers: Residual blocks a level.
        latent_channels: Of latents.
        entries: Of the codebook.
    """

    channels: tuple[int, ...]
    layers: int
    latent_channels: int
    entries: int


KANDINSKY_MOVQ = MovqSizes(channels=(128, 256, 256, 512), layers=2, latent_channels=4, entries=16384)
"""Kandinsky 2.2's: f8, c4."""

KandinskySource: TypeAlias = Weights | KandinskySizes
MovqSource: TypeAlias = Weights | MovqSizes | PixelSizes


class Movq(nn.Module):
    """diffusers' ``VQModel``; latents are those before they are quantised, as Kandinsky takes them."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.factor = 2 ** (len(network.config.block_out_channels) - 1)
        self.channels = network.config.latent_channels

    def train(self, mode: bool = True) -> "Movq":
        """It stays as it is: it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def encode(
        self, images: UInt8[Tensor, "sample height width 3"], noise: Noise
    ) -> Float[Tensor, "sample channel latent_height latent_width"]:
        """Latents; nothing of them is drawn."""
        latents: Tensor = self.network.encode(to_signed(images).to(self.network.dtype)).latents
        return latents.float()

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "sample channel latent_height latent_width"]
    ) -> UInt8[Tensor, "sample height width 3"]:
        """Pictures, one at a time."""
        rows = latents.to(self.network.dtype).split(1)
        return torch.cat([to_pictures(self.network.decode(row, force_not_quantize=True).sample) for row in rows])


def build_kandinsky(source: KandinskySource, load: bool = True) -> Any:
    """The U-Net, float32.

    Raises:
        OSError: If weights are not there.
        ValueError: If it is not conditioned on a picture's vector alone.
    """
    ensure_torchvision()
    from diffusers import UNet2DConditionModel

    if isinstance(source, KandinskySizes):
        return UNet2DConditionModel(**_config(source))
    unet = diffusers_model(UNet2DConditionModel, source, load, torch_dtype=torch.float32)
    if unet.config.addition_embed_type != "image" or unet.config.encoder_hid_dim_type != "image_proj":
        raise ValueError(
            f"{source.name} is no decoder of picture vectors: its addition_embed_type is "
            f"{unet.config.addition_embed_type!r}, Kandinsky 2.2's is 'image'"
        )
    return unet


def build_movq(source: MovqSource, load: bool = True) -> Movq | Pixels:
    """The autoencoder.

    Raises:
        OSError: If weights are not there.
    """
    if isinstance(source, PixelSizes):
        return Pixels(source.patch)
    ensure_torchvision()
    from diffusers import VQModel

    if isinstance(source, MovqSizes):
        return Movq(VQModel(**_movq_config(source)))
    return Movq(diffusers_model(VQModel, source, load))


def check_size(unet: Any, movq: Movq | Pixels, size: tuple[int, int]) -> None:
    """See that the U-Net can halve the latents of a picture on its way down, and find them again on its way up.

    Args:
        unet: Kandinsky's, whose blocks double their sides and no more; others of diffusers take odd sides too.
        movq: What latents are.
        size: Width and height, pixels.

    Raises:
        ValueError: If it can't; 64 is what sides must be multiples of at Kandinsky's own sizes.
    """
    check_sides(size, movq.factor * 2 ** (len(unet.config.block_out_channels) - 1))


def predict(
    unet: Any,
    latents: Float[Tensor, "row channel height width"],
    timesteps: Int[Tensor, "*row"],
    vectors: Float[Tensor, "row dim"],
) -> Float[Tensor, "row channel height width"]:
    """The noise that the U-Net sees; the variance that it says beside it is left."""
    dtype = unet.conv_in.weight.dtype
    said: Tensor = unet(
        latents.to(dtype),
        timesteps,
        encoder_hidden_states=None,
        added_cond_kwargs={"image_embeds": vectors.to(dtype)},
        return_dict=False,
    )[0]
    return said[:, : latents.shape[1]]


def _config(sizes: KandinskySizes) -> dict[str, Any]:
    attending = len(sizes.channels) - 1
    return {
        "in_channels": sizes.latent_channels,
        "out_channels": 2 * sizes.latent_channels,
        "block_out_channels": sizes.channels,
        "down_block_types": ("ResnetDownsampleBlock2D", *("SimpleCrossAttnDownBlock2D",) * attending),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": (*("SimpleCrossAttnUpBlock2D",) * attending, "ResnetUpsampleBlock2D"),
        "layers_per_block": sizes.layers,
        "attention_head_dim": sizes.head_dim,
        "cross_attention_dim": sizes.context_dim,
        "encoder_hid_dim": sizes.vector_dim,
        "encoder_hid_dim_type": "image_proj",
        "addition_embed_type": "image",
        "resnet_time_scale_shift": "scale_shift",
        "norm_num_groups": sizes.groups,
    }


def _movq_config(sizes: MovqSizes) -> dict[str, Any]:
    levels = len(sizes.channels)
    return {
        "block_out_channels": sizes.channels,
        "down_block_types": (*("DownEncoderBlock2D",) * (levels - 1), "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", *("UpDecoderBlock2D",) * (levels - 1)),
        "layers_per_block": sizes.layers,
        "latent_channels": sizes.latent_channels,
        "num_vq_embeddings": sizes.entries,
        "vq_embed_dim": sizes.latent_channels,
        "norm_type": "spatial",
    }
