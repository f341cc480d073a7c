"""MUMU: SDXL's U-Net looks at the states of Idefics2, which reads text and pictures as one, through an adapter.

Source: Berman and Peysakhovich 2024, "MUMU: Bootstrapping Multimodal Image Generation from Text-to-Image Data". Where
that is silent, what is done here is ours and says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from manifests.prompt import Insertion
from training.diffusion.objective import diffuse, squared_error
from training.diffusion.sampler import sample_latents, set_steps
from training.diffusion.schedule import NoiseSchedule
from training.encoders.idefics2 import Idefics2
from training.encoders.mllm import Encoded, Mllm
from training.families.base import Conditions, Losses, SampleConfig, conditions_of
from training.families.branches import guidance_of, in_branches
from training.modules.adapter import Adapter, AdapterSizes
from training.modules.autoencoder import AutoencoderSource, Kl, Pixels, build_autoencoder, latent_shape
from training.modules.context import Context
from training.modules.framing import framing_numbers, whole_numbers
from training.modules.pooled import PooledMean
from training.modules.unet import UnetSource, blocks_of, build_sdxl_unet, check_channels, pooled_dim_of
from training.noise import Noise
from training.stream.tensors import BatchTensors

Vector: TypeAlias = Literal["zeros", "mean"]
"""What the U-Net is told where SDXL has the second text encoder's vector: nothing, or a linear layer of the context's
mean, which begins at nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MumuConfig:
    """MUMU's sizes and choices.

    Attributes:
        reader: The language model.
        adapter: Between it and the U-Net.
        unet: The denoiser: SDXL's, or one of its kind.
        autoencoder: What latents are. SDXL's own overflows in float16; there is one that does not.
        size: Width and height of pictures drawn if none is asked for, pixels.
        vector: Of the whole prompt, for the U-Net; for ``mean`` a group has to train ``pooled.*``. Ours; the paper says
            that SDXL's text encoders are taken away, and not what becomes of their vector.
        schedule: Of noise; SDXL's.
        steps: Of DDIM, if no number is asked for. Source: the paper, on inference.
        guidance_scale: If none is asked for. Source: the same.
    """

    reader: Idefics2
    adapter: AdapterSizes
    unet: UnetSource
    autoencoder: AutoencoderSource
    size: tuple[int, int]
    vector: Vector = "zeros"
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    steps: int = 50
    guidance_scale: float = 6.0

    @property
    def sees_targets(self) -> bool:
        """Always."""
        return True

    @property
    def contrasts_samples(self) -> bool:
        """Never."""
        return False

    def build(self, *, load: bool = True) -> "Mumu":
        """The family.

        Raises:
            ValueError: If parts don't fit each other.
            OSError: If weights are not there.
        """
        unet, autoencoder = build_sdxl_unet(self.unet, load), build_autoencoder(self.autoencoder, load)
        check_channels(unet.config, autoencoder)
        return Mumu(self, self.reader.build(load), unet, autoencoder)


@dataclass(frozen=True, slots=True)
class _Told:
    """All that the U-Net is told: the context, a vector of it, and how the picture was or is framed."""

    context: Context
    vector: Float[Tensor, "sample vector"]
    numbers: Float[Tensor, "sample 6"]


class Mumu(nn.Module):
    """The family. Names of its parameters begin with ``mllm``, ``adapter``, ``pooled``, ``unet`` or ``autoencoder``."""

    insertion: Insertion = "before"

    def __init__(self, config: MumuConfig, mllm: Mllm, unet: Any, autoencoder: Kl | Pixels) -> None:
        super().__init__()
        self.config = config
        self.mllm = mllm
        self.adapter = Adapter(config.adapter, mllm.width, unet.config.cross_attention_dim)
        self.vector_dim = pooled_dim_of(unet)
        is_mean = config.vector == "mean"
        self.pooled = PooledMean(unet.config.cross_attention_dim, self.vector_dim) if is_mean else None
        self.unet = unet
        self.autoencoder = autoencoder
        self.scheduler = config.schedule.ddim()

    def forward(self, tensors: BatchTensors, noise: Noise) -> Losses:
        """``denoising``: squared error of eps or v; ``cut``: share of prompts too long."""
        diffused = diffuse(self.autoencoder.encode(tensors.images, noise), noise, self.scheduler)
        encoded = self.mllm(conditions_of(tensors), cut=True)
        told = self._told(encoded, framing_numbers(tensors.batch.framings, tensors.images.device))
        predicted = self._predict(diffused.latents, diffused.timesteps, told)
        total = squared_error(predicted, diffused.target).mean()
        return Losses(total=total, terms={"denoising": total.detach(), "cut": encoded.is_cut.float().mean()})

    def _told(self, encoded: Encoded, numbers: Float[Tensor, "sample 6"]) -> _Told:
        context = Context(self.adapter(encoded.tokens, encoded.mask), encoded.mask)
        if self.pooled is None:
            return _Told(context, context.tokens.new_zeros(len(context.tokens), self.vector_dim), numbers)
        return _Told(context, self.pooled(context), numbers)

    def _predict(
        self,
        latents: Float[Tensor, "sample channel height width"],
        timesteps: Int[Tensor, "*sample"],
        told: _Told,
    ) -> Float[Tensor, "sample channel height width"]:
        """What the U-Net says."""
        dtype = self.unet.conv_in.weight.dtype
        predicted: Tensor = self.unet(
            latents.to(dtype),
            timesteps,
            encoder_hidden_states=told.context.tokens.to(dtype),
            encoder_attention_mask=told.context.mask,
            added_cond_kwargs={"text_embeds": told.vector.to(dtype), "time_ids": told.numbers},
            return_dict=False,
        )[0]
        return predicted

    @torch.no_grad()
    def sample(
        self, conditions: Conditions, config: SampleConfig, first: int = 0
    ) -> UInt8[Tensor, "picture height width 3"]:
        """Pictures by DDIM, drawn as ones that were stored at their size; guided away from the empty prompt.

        That the empty prompt is what they are guided away from is ours; the paper has "no negative prompt". A prompt's
        images may be guided apart from its text.

        Raises:
            ValueError: If steps, scales or size are out of range, or a prompt is too long or lacks a picture.
        """
        guidance = guidance_of(config, self.config.guidance_scale)
        device = self.unet.conv_in.weight.device
        scheduler = set_steps(self.scheduler, self.config.steps if config.steps is None else config.steps, device)
        size = self.config.size if config.size is None else config.size
        shape = latent_shape(self.autoencoder, size)
        branches = in_branches(conditions, guidance)
        told = self._told(self.mllm(branches, cut=bool(config.cuts)), whole_numbers(size, len(branches), device))
        noise = Noise(config.seed, 0, range(first, first + len(conditions)))
        denoise = guidance.apply(lambda latents, timestep: self._predict(latents, timestep, told))
        return self.autoencoder.decode(sample_latents(denoise, scheduler, noise, shape, device))

    def units(self) -> Sequence[nn.Module]:
        """Residual blocks and transformers of the U-Net, layers of the adapter and of the language model."""
        return (*blocks_of(self.unet), *self.adapter.layers, *self.mllm.network.blocks())
