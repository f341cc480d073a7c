"""Stable Diffusion XL by diffusers: prompts to pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor

from stages.base import ModelRef
from stages.models.memory import CallSize
from stages.models.torchvision_compat import ensure_torchvision
from stages.models.weights import locate, unreadable
from stages.pixels import Pixels

ensure_torchvision()

from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline  # noqa: E402

Sampler = Literal["checkpoint", "euler", "ddim"]

_SCHEDULERS: Mapping[str, Any] = {"euler": EulerDiscreteScheduler, "ddim": DDIMScheduler}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """How pictures are drawn.

    Attributes:
        width: Pixels, a multiple of 8.
        height: Likewise.
        steps: Of the sampler.
        guidance_scale: Of classifier-free guidance; 1 is none.
        negative_prompt: What guidance leads away from; ``None``: from the zero vectors SDXL was trained with.
    """

    width: int
    height: int
    steps: int
    guidance_scale: float
    negative_prompt: str | None


@dataclass(frozen=True, slots=True)
class Sdxl:
    """SDXL. Source: Podell et al. 2023, "SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis".

    Noise is drawn on the CPU from each picture's own seed, and every call has its full size, so that a picture does not
    hang on its company; what remains is the last bits of sums that hang on the place in the call. Latents are decoded
    one by one, in float32, in which SDXL's VAE does not overflow.

    Attributes:
        pipe: The whole of it; the VAE in float32.
        calls: Pictures at once; halved once if memory is short.
        drawing: How.
    """

    pipe: Any
    calls: CallSize
    drawing: Drawing

    def fits(self, prompt: str) -> bool:
        """Whether both text encoders take the whole prompt."""
        tokenizers = filter(None, (self.pipe.tokenizer, self.pipe.tokenizer_2))
        return all(len(one(prompt, verbose=False).input_ids) <= one.model_max_length for one in tokenizers)

    def __call__(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Pixels | None]:
        """A picture for each prompt, drawn from its seed; ``None`` where the networks gave no numbers."""
        return self.calls.run(list(zip(prompts, seeds, strict=True)), self._draw)

    @torch.inference_mode()
    def _draw(self, pairs: Sequence[tuple[str, int]], size: int) -> list[Pixels | None]:
        full = [*pairs, *[pairs[-1]] * (size - len(pairs))]
        latents = self.pipe(
            prompt=[prompt for prompt, _ in full],
            negative_prompt=None if self.drawing.negative_prompt is None else [self.drawing.negative_prompt] * size,
            generator=[torch.Generator().manual_seed(seed) for _, seed in full],
            width=self.drawing.width,
            height=self.drawing.height,
            num_inference_steps=self.drawing.steps,
            guidance_scale=self.drawing.guidance_scale,
            output_type="latent",
        ).images
        return [self._decode(latent) for latent in latents[: len(pairs)]]

    def _decode(self, latent: Tensor) -> Pixels | None:
        vae = self.pipe.vae
        (picture,) = vae.decode(latent[None].float() / vae.config.scaling_factor).sample
        if not picture.isfinite().all():
            return None
        levels = (picture.clamp(-1, 1) + 1) * 127.5
        pixels: Pixels = levels.round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
        return pixels


def load_sdxl(ref: ModelRef, device: str, variant: str | None, sampler: Sampler, dtype: torch.dtype) -> Any:
    """A pipeline from the hub or a folder as diffusers writes one, in evaluation mode; safetensors only.

    Args:
        ref: Folder or hub id.
        device: Where it goes.
        variant: Part of the weights' file names, such as ``fp16``.
        sampler: ``checkpoint`` keeps the scheduler that comes with it; the others take its settings.
        dtype: Of all but the VAE, which is float32.

    Raises:
        ValueError: If it is not there, damaged, no safetensors, or no SDXL.
    """
    loader: Any = StableDiffusionXLPipeline
    try:
        pipe = loader.from_pretrained(
            locate(ref),
            revision=ref.revision or "main",
            variant=variant,
            use_safetensors=True,
            dtype=dtype,
            add_watermarker=False,
        )
    except (OSError, RuntimeError, ValueError, TypeError, AttributeError, KeyError, SafetensorError) as error:
        raise unreadable(ref, f"cannot load {ref.name!r} as SDXL", error) from error
    if sampler != "checkpoint":
        pipe.scheduler = _SCHEDULERS[sampler].from_config(pipe.scheduler.config)
    pipe.vae.to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(device)
