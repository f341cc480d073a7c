"""Pictures to latents and back: Stable Diffusion's autoencoder, or pixels as they are for models that fit on a CPU."""

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from training.modules.diffusers_weights import diffusers_model
from training.noise import Noise
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights


class Autoencoder(Protocol):
    """Pictures to latents and back."""

    factor: int
    """Pixels a latent, along each side."""
    channels: int
    """Of latents."""

    def encode(
        self, images: UInt8[Tensor, "sample height width 3"], noise: Noise
    ) -> Float[Tensor, "sample channel latent_height latent_width"]:
        """Latents of about unit deviation, float32, without gradients.

        Raises:
            ValueError: If a side is no multiple of a latent's.
        """
        ...

    def decode(
        self, latents: Float[Tensor, "sample channel latent_height latent_width"]
    ) -> UInt8[Tensor, "sample height width 3"]:
        """Pictures, sRGB."""
        ...


class Kl(nn.Module):
    """diffusers' ``AutoencoderKL``; latents are drawn from its posterior."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.factor = 2 ** (len(network.config.block_out_channels) - 1)
        self.channels = network.config.latent_channels

    def train(self, mode: bool = True) -> "Kl":
        """It stays as it is: it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def encode(
        self, images: UInt8[Tensor, "sample height width 3"], noise: Noise
    ) -> Float[Tensor, "sample channel latent_height latent_width"]:
        """Latents, scaled."""
        check_sides(size_of(images), self.factor)
        posterior = self.network.encode(to_signed(images).to(self.network.dtype)).latent_dist
        mean, deviation = posterior.mean.float(), posterior.std.float()
        drawn = mean + deviation * noise.normal("posterior", tuple(mean.shape[1:]), mean.device)
        return drawn * self.network.config.scaling_factor

    @torch.no_grad()
    def decode(
        self, latents: Float[Tensor, "sample channel latent_height latent_width"]
    ) -> UInt8[Tensor, "sample height width 3"]:
        """Pictures, one at a time: at 1024 px the decoder holds more than the U-Net."""
        scaled = (latents / self.network.config.scaling_factor).to(self.network.dtype)
        return torch.cat([to_pictures(self.network.decode(row).sample) for row in scaled.split(1)])


class Pixels(nn.Module):
    """No autoencoder: latents are pixels, square patches of them folded into channels."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.factor, self.channels = patch, 3 * patch**2

    def encode(
        self, images: UInt8[Tensor, "sample height width 3"], noise: Noise
    ) -> Float[Tensor, "sample channel latent_height latent_width"]:
        """Pixels on [-1, 1]."""
        check_sides(size_of(images), self.factor)
        return functional.pixel_unshuffle(to_signed(images), self.factor)

    def decode(
        self, latents: Float[Tensor, "sample channel latent_height latent_width"]
    ) -> UInt8[Tensor, "sample height width 3"]:
        """Pictures."""
        return to_pictures(functional.pixel_shuffle(latents, self.factor))


def latent_shape(autoencoder: Autoencoder, size: tuple[int, int]) -> tuple[int, int, int]:
    """Channels, height and width of the latents of a picture of so many pixels, width and height.

    Raises:
        ValueError: If a side is no multiple of a latent's.
    """
    factor = autoencoder.factor
    check_sides(size, factor)
    return autoencoder.channels, size[1] // factor, size[0] // factor


def check_sides(size: tuple[int, int], multiple: int) -> None:
    """See that the width and height of pictures are multiples of so many pixels, and not nothing.

    Raises:
        ValueError: If they aren't.
    """
    if min(size) < multiple or any(side % multiple for side in size):
        raise ValueError(f"width and height must be multiples of {multiple}, got {size[0]} x {size[1]}")


def size_of(images: UInt8[Tensor, "sample height width 3"]) -> tuple[int, int]:
    """Width and height of pictures."""
    return images.shape[2], images.shape[1]


def to_signed(images: UInt8[Tensor, "sample height width 3"]) -> Float[Tensor, "sample 3 height width"]:
    """Pictures on [-1, 1]."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(signed: Float[Tensor, "sample 3 height width"]) -> UInt8[Tensor, "sample height width 3"]:
    """Pictures from values on [-1, 1]; what lies outside is clipped."""
    levels = (signed.float().clamp(-1, 1) + 1) * 127.5
    return levels.round().to(torch.uint8).permute(0, 2, 3, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class KlSizes:
    """Sizes of an ``AutoencoderKL`` with fresh weights.

    Attributes:
        channels: Of each level; each but the first halves the sides.
        layers: Residual blocks a level.
        latent_channels: Of latents.
        groups: Of its norms.
        scaling_factor: What makes latents of about unit deviation.
    """

    channels: tuple[int, ...]
    layers: int
    latent_channels: int
    groups: int
    scaling_factor: float


SD_KL = KlSizes(channels=(128, 256, 512, 512), layers=2, latent_channels=4, groups=32, scaling_factor=0.18215)
"""Stable Diffusion 1.5's; LDM's f8 c4, which UNIMO-G starts from (section 3.2)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelSizes:
    """No autoencoder.

    Attributes:
        patch: Side of the squares folded into channels, pixels.
    """

    patch: int


AutoencoderSource: TypeAlias = Weights | KlSizes | PixelSizes
"""Which autoencoder."""


def build_autoencoder(source: AutoencoderSource, load: bool = True) -> Kl | Pixels:
    """The autoencoder.

    Raises:
        OSError: If weights are not there.
    """
    if isinstance(source, PixelSizes):
        return Pixels(source.patch)
    ensure_torchvision()
    from diffusers import AutoencoderKL

    if isinstance(source, KlSizes):
        return Kl(AutoencoderKL(**_kl_config(source)))
    return Kl(diffusers_model(AutoencoderKL, source, load))


def _kl_config(sizes: KlSizes) -> dict[str, Any]:
    levels = len(sizes.channels)
    return {
        "block_out_channels": sizes.channels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": sizes.layers,
        "latent_channels": sizes.latent_channels,
        "norm_num_groups": sizes.groups,
        "scaling_factor": sizes.scaling_factor,
    }
