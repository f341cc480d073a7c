"""The sampler: one loop around any scheduler of diffusers, with classifier-free guidance.

Stock pipelines fix the context before their loop and draw noise for a batch; this one asks a function at every
timestep, and each picture's noise is its own, so that a picture does not depend on those drawn beside it.
"""

import inspect
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from training.diffusion.schedule import Scheduler
from training.noise import Noise

MOST_GUIDANCE = 100.0
"""Pictures are burnt long before; a larger scale is a slip of the pen."""

_LEAST_START = 0.75
"""Of training's timesteps. Below, a network is told of more of the picture than the noise that it is shown has."""


class Denoise(Protocol):
    """The network in its context: latents at a timestep, a scalar, to what it predicts."""

    def __call__(
        self, latents: Float[Tensor, "row channel height width"], timestep: Tensor
    ) -> Float[Tensor, "row out height width"]:
        """The prediction."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Guidance:
    """Classifier-free guidance, of the prompt as one or of its text and its images apart.

    As one, ``eps_null + scale * (eps_full - eps_null)`` (Ho and Salimans 2022, equation 6, with w = scale - 1). Apart,
    ``eps_null + scale * (eps_text - eps_null) + image_scale * (eps_full - eps_text)``: Bayes' rule as Brooks et al.
    2023, "InstructPix2Pix", section 3.2.1, but conditioned on the text first, as prompts without images are what is
    trained on. Equal scales make both the same.

    Attributes:
        scale: 1 to 100; 1: no guidance.
        image_scale: 0 to 100; ``None``: as one.

    Raises:
        ValueError: If a scale is out of range.
    """

    scale: float
    image_scale: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.scale <= MOST_GUIDANCE:
            raise ValueError(f"guidance scale must be 1 (none) to {MOST_GUIDANCE:g}, got {self.scale:g}")
        if self.image_scale is not None and not 0 <= self.image_scale <= MOST_GUIDANCE:
            raise ValueError(f"image guidance scale must be 0 to {MOST_GUIDANCE:g}, got {self.image_scale:g}")

    @property
    def branches(self) -> int:
        """How many contexts the network is asked in: full; null, full; or null, text, full."""
        if self.image_scale is not None:
            return 3
        return 1 if math.isclose(self.scale, 1) else 2

    def combine(self, predictions: Sequence[Float[Tensor, "row ..."]]) -> Float[Tensor, "row ..."]:
        """The guided prediction from those of the branches, in the order of :attr:`branches`."""
        match predictions:
            case [full]:
                return full
            case [null, full]:
                return null + self.scale * (full - null)
            case [null, text, full] if self.image_scale is not None:
                return null + self.scale * (text - null) + self.image_scale * (full - text)
            case _:
                raise ValueError(f"{self.branches} predictions are to be combined, got {len(predictions)}")

    def apply(self, denoise: Denoise) -> Denoise:
        """The guided network, from one whose context holds all branches, one after another."""

        def guided(latents: Tensor, timestep: Tensor) -> Tensor:
            rows = latents.repeat(self.branches, *(1 for _ in latents.shape[1:]))
            return self.combine(denoise(rows, timestep).chunk(self.branches))

        return guided


def set_steps(scheduler: Scheduler, steps: int, device: torch.device | str = "cpu") -> Scheduler:
    """A copy of the scheduler that is set to so many steps.

    Raises:
        ValueError: If it can't take so many.
    """
    most = scheduler.config.num_train_timesteps
    if not 1 <= steps <= most:
        raise ValueError(f"steps must be 1 to {most}, the timesteps of training, got {steps}")
    scheduler = deepcopy(scheduler)
    scheduler.set_timesteps(steps, device=device)
    first, stride = int(scheduler.timesteps.max()), most // steps
    if first >= most:
        raise ValueError(
            f"{steps} steps reach timestep {first}, but training ends at {most - 1}: take {most - 1} steps at most"
        )
    if first + stride <= _LEAST_START * most:
        raise ValueError(
            f"{steps} steps, each of {stride} timesteps, begin at {first} of {most}, where more than noise is seen: "
            f"take {most // (stride + 1)}, or {math.ceil(_LEAST_START * most / stride)} and more"
        )
    return scheduler


@torch.no_grad()
def sample_latents(
    denoise: Denoise, scheduler: Scheduler, noise: Noise, shape: tuple[int, int, int], device: torch.device | str
) -> Float[Tensor, "slot channel height width"]:
    """Latents from noise, float32, one a slot.

    Args:
        denoise: The network, guidance applied.
        scheduler: As :func:`set_steps` makes it; its state moves on, so it serves one run.
        noise: ``latents`` of it is where pictures start; stochastic schedulers are seeded from it, picture by picture.
        shape: Channels, height and width of a picture's latents.
        device: To draw on.
    """
    latents = noise.normal("latents", shape, device) * scheduler.init_noise_sigma
    options = _step_options(scheduler, noise)
    for timestep in scheduler.timesteps:
        output = denoise(scheduler.scale_model_input(latents, timestep), timestep)
        latents = scheduler.step(output.float(), timestep, latents, return_dict=False, **options)[0]
    return latents


def _step_options(scheduler: Scheduler, noise: Noise) -> dict[str, Any]:
    """A generator a picture, for schedulers that draw."""
    if "generator" not in inspect.signature(scheduler.step).parameters:
        return {}
    seeds: list[int] = noise.integers("sampler", 2**53, ()).tolist()
    return {"generator": [torch.Generator().manual_seed(seed) for seed in seeds]}
