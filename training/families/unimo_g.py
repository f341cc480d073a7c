"""UNIMO-G: a U-Net that looks at the states of a multimodal language model, which reads text and pictures as one.

Source: Li et al. 2024, "UNIMO-G: Unified Image Generation through Multimodal Conditional Diffusion". Where that is
silent, what is done here is ours and says so.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from manifests.prompt import Insertion
from training.diffusion.objective import diffuse, squared_error
from training.diffusion.sampler import sample_latents, set_steps
from training.diffusion.schedule import NoiseSchedule
from training.encoders.blip2 import Blip2
from training.encoders.mllm import Encoded, Mllm
from training.encoders.qwen_vl import QwenVl
from training.families.base import Conditions, Losses, SampleConfig, conditions_of, reference_masks
from training.families.branches import guidance_of, in_branches
from training.modules.attention_loss import AttentionLoss, EntityMasks, attention_loss, entity_masks
from training.modules.attention_maps import AttnCapture, membership
from training.modules.autoencoder import AutoencoderSource, Kl, Pixels, build_autoencoder, latent_shape
from training.modules.connector import Connector
from training.modules.context import Context
from training.modules.unet import UnetSource, blocks_of, build_unet, check_channels
from training.noise import Noise
from training.stream.tensors import BatchTensors

Reader: TypeAlias = QwenVl | Blip2
"""The language model that reads prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnimoGConfig:
    """UNIMO-G's sizes and choices.

    Attributes:
        reader: The language model.
        unet: The denoiser.
        autoencoder: What latents are.
        size: Width and height of pictures drawn if none is asked for, pixels.
        attention: How attention is drawn to masks; ``None``: it is not, as in the text-to-image stage.
        schedule: Of noise.
        steps: Of DDIM, if no number is asked for. Source: section 4.1.
        guidance_scale: If none is asked for. Source: section 4.1.
    """

    reader: Reader
    unet: UnetSource
    autoencoder: AutoencoderSource
    size: tuple[int, int]
    attention: AttentionLoss | None
    schedule: NoiseSchedule = field(default_factory=NoiseSchedule)
    steps: int = 50
    guidance_scale: float = 5.0

    @property
    def sees_targets(self) -> bool:
        """Always."""
        return True

    @property
    def contrasts_samples(self) -> bool:
        """Never."""
        return False

    def build(self, *, load: bool = True) -> "UnimoG":
        """The family.

        Raises:
            ValueError: If parts don't fit each other.
            OSError: If weights are not there.
        """
        unet, autoencoder = build_unet(self.unet, load), build_autoencoder(self.autoencoder, load)
        check_channels(unet.config, autoencoder)
        return UnimoG(self, self.reader.build(load), unet, autoencoder)


class UnimoG(nn.Module):
    """The family. Names of its parameters begin with ``mllm``, ``connector``, ``unet`` or ``autoencoder``."""

    insertion: Insertion = "replace"

    def __init__(self, config: UnimoGConfig, mllm: Mllm, unet: Any, autoencoder: Kl | Pixels) -> None:
        super().__init__()
        self.config = config
        self.mllm = mllm
        self.connector = Connector(mllm.width, unet.config.cross_attention_dim)
        self.unet = unet
        self.autoencoder = autoencoder
        self.scheduler = config.schedule.ddim()

    def forward(self, tensors: BatchTensors, noise: Noise) -> Losses:
        """``denoising``: squared error of eps or v; ``attention``: to masks; ``cut``: share of prompts too long."""
        diffused = diffuse(self.autoencoder.encode(tensors.images, noise), noise, self.scheduler)
        encoded = self.mllm(conditions_of(tensors), cut=True)
        wanted = entity_masks(reference_masks(tensors), tensors.images)
        capture = self._capture(encoded, wanted, diffused.latents)
        predicted = self._predict(diffused.latents, diffused.timesteps, self._context(encoded), capture)
        terms = {"denoising": squared_error(predicted, diffused.target).mean()}
        total = terms["denoising"]
        if capture is not None and self.config.attention is not None:
            # Samples without entities count as 0, so that parts of a batch may be averaged.
            terms["attention"] = attention_loss(
                capture.maps, wanted.of(capture.owner), self.config.attention.kind
            ).mean()
            total = total + self.config.attention.weight * terms["attention"]
        terms["cut"] = encoded.is_cut.float().mean()
        return Losses(total=total, terms={name: term.detach() for name, term in terms.items()})

    def _capture(
        self, encoded: Encoded, wanted: EntityMasks, latents: Float[Tensor, "sample channel height width"]
    ) -> AttnCapture | None:
        if self.config.attention is None:
            return None
        members = membership(encoded.entity, wanted.known.shape[1], self.config.attention.aggregate)
        return AttnCapture(members, (latents.shape[2], latents.shape[3]), self.config.attention.most_places)

    def _context(self, encoded: Encoded) -> Context:
        return Context(self.connector(encoded.tokens), encoded.mask)

    def _predict(
        self,
        latents: Float[Tensor, "sample channel height width"],
        timesteps: Int[Tensor, "*sample"],
        context: Context,
        capture: AttnCapture | None = None,
    ) -> Float[Tensor, "sample channel height width"]:
        """What the U-Net says; ``capture`` is open meanwhile."""
        dtype = self.unet.conv_in.weight.dtype
        with capture or nullcontext():
            predicted: Tensor = self.unet(
                latents.to(dtype),
                timesteps,
                encoder_hidden_states=context.tokens.to(dtype),
                encoder_attention_mask=context.mask,
                cross_attention_kwargs=None if capture is None else {"capture": capture},
                return_dict=False,
            )[0]
        return predicted

    @torch.no_grad()
    def sample(
        self, conditions: Conditions, config: SampleConfig, first: int = 0
    ) -> UInt8[Tensor, "picture height width 3"]:
        """Pictures by DDIM; a prompt's images may be guided apart from its text.

        Raises:
            ValueError: If steps, scales or size are out of range, or a prompt is too long or lacks a picture.
        """
        guidance = guidance_of(config, self.config.guidance_scale)
        device = self.unet.conv_in.weight.device
        scheduler = set_steps(self.scheduler, self.config.steps if config.steps is None else config.steps, device)
        shape = latent_shape(self.autoencoder, self.config.size if config.size is None else config.size)
        context = self._context(self.mllm(in_branches(conditions, guidance), cut=bool(config.cuts)))
        noise = Noise(config.seed, 0, range(first, first + len(conditions)))
        denoise = guidance.apply(lambda latents, timestep: self._predict(latents, timestep, context))
        return self.autoencoder.decode(sample_latents(denoise, scheduler, noise, shape, device))

    def units(self) -> Sequence[nn.Module]:
        """Residual blocks and transformers of the U-Net, layers of the language model."""
        return (*blocks_of(self.unet), *self.mllm.network.blocks())
