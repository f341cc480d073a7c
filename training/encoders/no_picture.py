"""CLIP's vector of no picture, which training from features alone would else load all of CLIP for."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from training.encoders.clip_pictures import picture_half
from training.encoders.once import once
from training.weights import Weights, load_weights


def no_picture(weights: Weights) -> Float[Tensor, " dim"]:
    """The vector of pixels that are all 0 after normalisation, float32, as :meth:`Clip.see_nothing` has it.

    Only CLIP's half for pictures is loaded for it, and only once on a machine: it stays in the cache of Inlay, by the
    commit of the hub's model, or by the sizes and times of a folder's files.

    Raises:
        OSError: If the weights are not there.
    """
    return once("no_picture", weights, lambda: _seen(weights))


@torch.no_grad()
def _seen(weights: Weights) -> Float[Tensor, " dim"]:
    network: Any = load_weights(picture_half(), weights, dtype=torch.float32).eval()
    side = network.config.image_size
    vector: Tensor = network(pixel_values=torch.zeros(1, 3, side, side)).image_embeds[0]
    return vector
