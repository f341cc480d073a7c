"""The prior's released weights: safetensors in a folder or a repository of the hub, under diffusers' names."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from training.modules.prior import Prior
from training.weights import Weights

FILE = "diffusion_pytorch_model.safetensors"
_OF_TIME = "time_embedding."
"""Kept by some exports of diffusers' class; the prior has no time."""


def load_prior(prior: Prior, weights: Weights) -> None:
    """Take weights.

    Raises:
        OSError: If the file is not there.
        ValueError: If its parameters are not the prior's.
    """
    state = {name: value for name, value in load_file(_find(weights)).items() if not name.startswith(_OF_TIME)}
    _check(prior.state_dict(), state, weights.name)
    prior.load_state_dict(state)


def _find(weights: Weights) -> Path:
    folder = Path(weights.name)
    if folder.is_dir():
        path = folder / weights.subfolder / FILE
        if not path.is_file():
            raise OSError(f"{path}: no such file; a prior's weights are kept there by `python -m training export`")
        return path
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = hf_hub_download(weights.name, FILE, subfolder=weights.subfolder or None, revision=weights.revision)
    except (HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise OSError(f"{weights.name}: {FILE} can't be had: {error}; name a local folder in the recipe") from error
    return Path(found)


def _check(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], name: str) -> None:
    differing = sorted(
        key
        for key in ours.keys() | theirs.keys()
        if key not in ours or key not in theirs or ours[key].shape != theirs[key].shape
    )
    if differing:
        raise ValueError(
            f"{name} is no prior of these sizes: {', '.join(differing[:4])} and {len(differing)} in all differ"
        )
