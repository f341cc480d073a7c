"""The loss that makes a U-Net look at a reference where its subject is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from training.modules.attention_maps import Aggregate


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionLoss:
    """How attention is drawn to masks.

    Attributes:
        weight: In the whole loss. The paper gives none; 0.01 as in Subject-Diffusion.
        kind: ``l1`` is UNIMO-G's, |map - mask|; ``balanced_l1`` is the map's mean beside the mask less that inside it,
            as FastComposer (Xiao et al. 2023, equation 7) has it.
        aggregate: Of an entity's tokens. Tokens share one softmax, so single ones can't reach 1 in a mask; their sum
            can. The paper does not say; ours.
        most_places: Larger maps are left out; ours.

    Source: Li et al. 2024, "UNIMO-G", section 3.3.
    """

    weight: float = 0.01
    kind: Literal["l1", "balanced_l1"] = "l1"
    aggregate: Aggregate = "sum"
    most_places: int = 2048


@dataclass(frozen=True, slots=True)
class EntityMasks:
    """Where targets show the entities of their prompts.

    Attributes:
        masks: Entity k of the prompt is at k - 1.
        known: Which of these are known.
    """

    masks: Float[Tensor, "sample entity height width"]
    known: Bool[Tensor, "sample entity"]

    def of(self, owner: Int[Tensor, "sample map"]) -> "EntityMasks":
        """The masks that maps are to match; nothing is known for maps of no entity."""
        rows = torch.arange(len(owner), device=owner.device)[:, None]
        number = (owner - 1).clamp(min=0)
        return EntityMasks(self.masks[rows, number], self.known[rows, number] & (owner > 0))


def entity_masks(
    masks: Sequence[Sequence[Bool[Tensor, "height width"] | None]], images: UInt8[Tensor, "sample height width 3"]
) -> EntityMasks:
    """The masks on images, in one tensor with room for one entity at least."""
    most = max(1, *(len(row) for row in masks))
    filled = torch.zeros(len(masks), most, *images.shape[1:3], device=images.device)
    known = torch.zeros(len(masks), most, dtype=torch.bool)
    for sample, row in enumerate(masks):
        for entity, mask in enumerate(row):
            if mask is not None:
                filled[sample, entity] = mask
                known[sample, entity] = True
    return EntityMasks(filled, known.to(images.device))


def attention_loss(
    maps: Sequence[Float[Tensor, "sample map height width"]],
    wanted: EntityMasks,
    kind: Literal["l1", "balanced_l1"] = "l1",
) -> Float[Tensor, " sample"]:
    """Of each sample, the mean over layers and over its maps with known masks; 0 for samples without.

    Masks are averaged down to each map's size.

    Raises:
        ValueError: If there are no maps.
    """
    if not maps:
        raise ValueError("no attention map was taken: the U-Net has no cross-attention of at most most_places places")
    losses = torch.stack([_layer_loss(layer, wanted.masks, kind) for layer in maps]).mean(0)
    known = wanted.known
    return (losses * known).sum(1) / known.sum(1).clamp(min=1)


def _layer_loss(
    maps: Float[Tensor, "sample map height width"],
    masks: Float[Tensor, "sample map full_height full_width"],
    kind: Literal["l1", "balanced_l1"],
) -> Float[Tensor, "sample map"]:
    inside = functional.adaptive_avg_pool2d(masks, (maps.shape[-2], maps.shape[-1]))
    if kind == "l1":
        return (maps - inside).abs().mean((2, 3))
    return _mean_over(maps, 1 - inside) - _mean_over(maps, inside)


def _mean_over(
    maps: Float[Tensor, "sample map height width"], weight: Float[Tensor, "sample map height width"]
) -> Float[Tensor, "sample map"]:
    return (maps * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-6)
