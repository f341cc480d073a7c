"""The denoising objective: clean latents to noisy ones and what the network is to predict of them.

Source: Ho et al. 2020, "Denoising Diffusion Probabilistic Models", equations 4 and 14.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from training.diffusion.schedule import Scheduler
from training.noise import Noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Diffused:
    """Latents on their way to noise, and the target of the network that sees them."""

    latents: Float[Tensor, "sample channel height width"]
    timesteps: Int[Tensor, " sample"]
    target: Float[Tensor, "sample channel height width"]


def diffuse(clean: Float[Tensor, "sample channel height width"], noise: Noise, scheduler: Scheduler) -> Diffused:
    """Latents at timesteps drawn evenly, in float32; a sample's draws depend on its slot alone.

    Raises:
        ValueError: If there are not as many slots as samples, or the scheduler's prediction is neither eps nor v.
    """
    if len(noise.slots) != len(clean):
        raise ValueError(f"noise is for {len(noise.slots)} slots, the batch has {len(clean)} samples")
    clean = clean.float()
    timesteps = noise.integers("timestep", scheduler.config.num_train_timesteps, (), clean.device)
    eps = noise.normal("eps", tuple(clean.shape[1:]), clean.device)
    return Diffused(
        latents=scheduler.add_noise(clean, eps, timesteps),
        timesteps=timesteps,
        target=_target(scheduler, clean, eps, timesteps),
    )


def _target(
    scheduler: Scheduler,
    clean: Float[Tensor, "sample channel height width"],
    eps: Float[Tensor, "sample channel height width"],
    timesteps: Int[Tensor, " sample"],
) -> Float[Tensor, "sample channel height width"]:
    match scheduler.config.prediction_type:
        case "epsilon":
            return eps
        case "v_prediction":
            return scheduler.get_velocity(clean, eps, timesteps)
        case other:
            raise ValueError(f"the scheduler's prediction_type must be epsilon or v_prediction, got {other!r}")


def squared_error(
    prediction: Float[Tensor, "sample channel height width"], target: Float[Tensor, "sample channel height width"]
) -> Float[Tensor, " sample"]:
    """Of each sample, the mean squared error; float32."""
    return functional.mse_loss(prediction.float(), target.float(), reduction="none").flatten(1).mean(1)
