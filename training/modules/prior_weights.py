"""The prior's released weights: safetensors in a folder or a repository of the hub, under diffusers' names."""

from training.modules.prior import Prior
from training.modules.released import load_released
from training.weights import Weights

FILE, EXPORTED = "diffusion_pytorch_model.safetensors", "model.safetensors"
"""As diffusers calls it, and the released weights with it; and as an export of ours does."""

_OF_TIME = "time_embedding."
"""Kept by some exports of diffusers' class; the prior has no time."""


def load_prior(prior: Prior, weights: Weights) -> None:
    """Take weights.

    Raises:
        OSError: If the file is not there.
        ValueError: If its parameters are not the prior's.
    """
    load_released(prior, weights, (FILE, EXPORTED), "prior", _OF_TIME)
