"""Pictures to the latents of diffusers' autoencoders: Stable Diffusion's VAE and Kandinsky's MOVQ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from manifests.shard import aspect_bucket
from stages.base import ModelRef
from stages.buckets import bucket_size, cover
from stages.models.pretrained import load_pretrained
from stages.models.torchvision_compat import ensure_torchvision
from stages.pixels import Pixels

ensure_torchvision()

from diffusers import AutoencoderKL, VQModel  # noqa: E402


@dataclass(frozen=True, slots=True)
class Vae:
    """A variational autoencoder. Source: Rombach et al. 2022, "High-Resolution Image Synthesis"."""

    model: Any

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """``latent``: the posterior's mean, not scaled, (picture, channel, y, x)."""
        return {"latent": self.model.encode(_signed(given)).latent_dist.mode()}


@dataclass(frozen=True, slots=True)
class Movq:
    """A vector-quantised autoencoder with spatial norms, as Kandinsky has it; not quantised here.

    Source: Zheng et al. 2022, "MoVQ"; Razzhigaev et al. 2023, "Kandinsky".
    """

    model: Any

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """``latent``, before quantisation, not scaled, (picture, channel, y, x)."""
        return {"latent": self.model.encode(_signed(given)).latents}


def _signed(given: Tensor) -> Tensor:
    """Pixels in [-1, 1]."""
    return given.float().div(127.5).sub(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketPixels:
    """What an autoencoder sees: the middle of the picture at its aspect bucket's size.

    Attributes:
        buckets: Width / height of each.
        side: Of the square bucket, in pixels; the others have about as many pixels.
        multiple: What widths and heights are divisible by.
    """

    buckets: Sequence[float]
    side: int
    multiple: int

    def __call__(self, picture: Pixels, is_crop: bool) -> Tensor:
        """(channel, y, x), uint8; crops as all others."""
        height, width = picture.shape[:2]
        bucket = aspect_bucket(width, height, self.buckets)
        fitted = cover(picture, *bucket_size(bucket, self.side, self.multiple))
        return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)


def load_autoencoder(kind: Literal["vae", "movq"], ref: ModelRef, device: str) -> Vae | Movq:
    """An autoencoder from the hub or a folder.

    Raises:
        ValueError: If it is not there, damaged, no safetensors, or of another architecture.
    """
    loader = AutoencoderKL if kind == "vae" else VQModel
    model = load_pretrained(loader, ref, device, (loader.__name__,))
    return Vae(model) if kind == "vae" else Movq(model)
