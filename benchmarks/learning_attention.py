"""Where a trained UNIMO-G looks for a reference: how much of that attention is on the subject that the reference shows.

Taken from any UNIMO-G, however it was trained, so that trainings with and without the attention loss can be compared.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.diffusion.objective import diffuse
from training.families.base import conditions_of, reference_masks
from training.families.unimo_g import UnimoG
from training.modules.attention_loss import EntityMasks, entity_masks
from training.modules.attention_maps import AttnCapture, membership
from training.noise import Noise
from training.stream.tensors import BatchTensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Mass:
    """Means over references, layers and draws of noise.

    Attributes:
        inside: Share of the attention to a reference that is paid within its subject's mask, 0 to 1.
        area: Share of the picture that the mask covers: what attention comes to that is the same everywhere.
    """

    inside: float
    area: float


@torch.no_grad()
def attention_mass(family: UnimoG, batches: Sequence[BatchTensors], draws: int = 4) -> Mass:
    """The mass of held-out batches; NaN if no mask of a reference is known."""
    found = [
        _shares(family, tensors, Noise(99, number * draws + draw, range(len(tensors.batch))))
        for number, tensors in enumerate(batches)
        for draw in range(draws)
    ]
    inside, area = np.concatenate([rows.cpu().numpy() for rows in found]).T
    return (
        Mass(inside=float(inside.mean()), area=float(area.mean())) if len(inside) else Mass(inside=np.nan, area=np.nan)
    )


def _shares(family: UnimoG, tensors: BatchTensors, noise: Noise) -> Tensor:
    """``reference 2``: of each reference whose mask is known, the share inside and the area, means over layers."""
    wanted = entity_masks(reference_masks(tensors), tensors.images)
    capture = _captured(family, tensors, noise, wanted)
    matched = wanted.of(capture.owner)
    layers = torch.stack([_layer(maps, matched.masks) for maps in capture.maps])
    return layers.mean(0)[matched.known]


def _captured(family: UnimoG, tensors: BatchTensors, noise: Noise, wanted: EntityMasks) -> AttnCapture:
    diffused = diffuse(family.autoencoder.encode(tensors.images, noise), noise, family.scheduler)
    encoded = family.mllm(conditions_of(tensors), cut=True)
    members = membership(encoded.entity, wanted.known.shape[1], "sum")
    height, width = diffused.latents.shape[2:]
    with AttnCapture(members, (height, width)) as capture:
        family.unet(
            diffused.latents,
            diffused.timesteps,
            encoder_hidden_states=family.connector(encoded.tokens),
            encoder_attention_mask=encoded.mask,
            cross_attention_kwargs={"capture": capture},
        )
    return capture


def _layer(maps: Tensor, masks: Tensor) -> Tensor:
    """``sample map 2`` of maps, ``sample map height width``, and masks likewise, at the picture's own size."""
    inside = functional.adaptive_avg_pool2d(masks, (maps.shape[-2], maps.shape[-1]))
    share = (maps * inside).sum((2, 3)) / maps.sum((2, 3)).clamp(min=1e-12)
    return torch.stack([share, inside.mean((2, 3))], dim=-1)
