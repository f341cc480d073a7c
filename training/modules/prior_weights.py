"""The prior's released weights: safetensors in a folder or a repository of the hub, under diffusers' names."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from training.modules.prior import Prior
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
    state = {name: value for name, value in load_file(_find(weights)).items() if not name.startswith(_OF_TIME)}
    _check(prior.state_dict(), state, weights.name)
    prior.load_state_dict(state)


def _find(weights: Weights) -> Path:
    folder = Path(weights.name)
    if not folder.is_dir():
        return _fetched(weights)
    folder /= weights.subfolder
    found = next((folder / name for name in (FILE, EXPORTED) if (folder / name).is_file()), None)
    if found is None:
        raise OSError(
            f"{folder / FILE}: no such file, nor {EXPORTED}; name the folder of the prior itself, which is prior in "
            "what `python -m training export` writes"
        )
    return found


def _fetched(weights: Weights) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    errors: list[Exception] = []
    for name in (FILE, EXPORTED):
        try:
            found = hf_hub_download(weights.name, name, subfolder=weights.subfolder or None, revision=weights.revision)
            return Path(found)
        except (HfHubHTTPError, LocalEntryNotFoundError) as error:
            errors.append(error)
    raise OSError(f"{weights.name}: {FILE} can't be had: {errors[0]}; name a local folder in the recipe") from errors[0]


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
