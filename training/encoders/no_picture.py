"""CLIP's vector of no picture, which training from features alone would else load all of CLIP for."""

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save
from torch import Tensor

from manifests.files import write_atomically
from training.stream.options import cache_folder
from training.torchvision_compat import ensure_torchvision
from training.weights import Weights, cached_commit, load_weights

_NAME = "vector"


def no_picture(weights: Weights) -> Float[Tensor, " dim"]:
    """The vector of pixels that are all 0 after normalisation, float32, as :meth:`Clip.see_nothing` has it.

    Only CLIP's half for pictures is loaded for it, and only once on a machine: it stays in the cache of Inlay, by the
    commit of the hub's model, or by the sizes and times of a folder's files.

    Raises:
        OSError: If the weights are not there.
    """
    kept = _place(weights)
    if kept is not None and kept.exists():
        return load_file(kept)[_NAME]
    vector = _seen(weights)
    if kept is not None:
        with suppress(OSError):  # no cache is a slower start, and no more
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(kept, save({_NAME: vector}))
    return vector


def _place(weights: Weights) -> Path | None:
    """Where the vector is kept; ``None`` where it isn't known which weights these are."""
    identity = _identity(weights)
    if identity is None:
        return None
    digest = hashlib.sha256(repr((identity, weights.subfolder)).encode()).hexdigest()
    return cache_folder() / "no_picture" / f"{digest[:32]}.safetensors"


def _identity(weights: Weights) -> object:
    folder = Path(weights.name)
    if not folder.is_dir():
        commit = cached_commit(weights)
        return None if commit is None else (weights.name, commit)
    files = sorted((folder / weights.subfolder).iterdir())
    stats = [(file.name, file.stat()) for file in files if file.suffix in (".safetensors", ".json")]
    return str(folder.resolve()), [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


@torch.no_grad()
def _seen(weights: Weights) -> Float[Tensor, " dim"]:
    network: Any = load_weights(_picture_half(), weights, dtype=torch.float32).eval()
    side = network.config.image_size
    vector: Tensor = network(pixel_values=torch.zeros(1, 3, side, side)).image_embeds[0]
    return vector


def _picture_half() -> Any:
    """The class of CLIP's half for pictures, that passes over the other in silence."""
    ensure_torchvision()
    from transformers import CLIPVisionModelWithProjection

    class PictureHalf(CLIPVisionModelWithProjection):
        _keys_to_ignore_on_load_unexpected = [r"^text_model\.", r"^text_projection\.", r"^logit_scale$"]  # noqa: RUF012

    return PictureHalf
