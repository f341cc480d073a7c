"""The noise schedule: how much of a picture is left at each timestep; computed by diffusers' schedulers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from training.torchvision_compat import ensure_torchvision

Prediction: TypeAlias = Literal["epsilon", "v_prediction"]
"""What the network predicts, as diffusers names it: the noise, or the velocity of Salimans and Ho 2022, equation 7."""


class Scheduler(Protocol):
    """A scheduler of diffusers, as far as training and sampling need one."""

    config: Any
    alphas_cumprod: Float[Tensor, " timestep"]
    init_noise_sigma: float
    timesteps: Tensor

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Choose the timesteps of a run."""
        ...

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """What the network is shown."""
        ...

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **options: Any) -> Any:
        """One timestep on."""
        ...

    def add_noise(
        self, original_samples: Tensor, noise: Tensor, timesteps: Int[Tensor, " sample"]
    ) -> Float[Tensor, "sample ..."]:
        """Samples at timesteps."""
        ...

    def get_velocity(
        self, sample: Tensor, noise: Tensor, timesteps: Int[Tensor, " sample"]
    ) -> Float[Tensor, "sample ..."]:
        """What a network that predicts ``v`` is to say."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseSchedule:
    """The constants of a noise schedule; without others, those of Stable Diffusion 1.5, which SD 2.1 shares.

    Attributes:
        prediction: ``v_prediction`` for SD 2.1 at 768 px.
        train_steps: Number of timesteps.
        kind: How beta rises, as diffusers names it.
        beta_start: At timestep 0.
        beta_end: At the last one.

    Source: the scheduler configurations published with those checkpoints.
    """

    prediction: Prediction = "epsilon"
    train_steps: int = 1000
    kind: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "scaled_linear"
    beta_start: float = 0.00085
    beta_end: float = 0.012

    def ddim(self) -> Scheduler:
        """The scheduler of training and of DDIM sampling: 50 steps are the timesteps 981, 961 … 21, 1."""
        ensure_torchvision()
        from diffusers import DDIMScheduler

        scheduler: Scheduler = DDIMScheduler(**self._constants, **_SD_SAMPLING)
        return scheduler

    @property
    def _constants(self) -> Mapping[str, Any]:
        return {
            "num_train_timesteps": self.train_steps,
            "beta_start": self.beta_start,
            "beta_end": self.beta_end,
            "beta_schedule": self.kind,
            "prediction_type": self.prediction,
        }


_SD_SAMPLING: Mapping[str, Any] = {
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}
