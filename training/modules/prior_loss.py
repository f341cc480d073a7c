"""The prior's loss. Source: Patel et al. 2024, "λ-ECLIPSE", equation 1."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorLoss:
    """Eq. 1, and what it leaves open: whether vectors are normalised, the temperature, and how squares are summed.

    Attributes:
        contrastive_weight: Its λ.
        temperature: Its τ; not given there. CLIP's own, ours.
        is_normalised: Whether vectors have length 1 in the contrastive term; ours.
        reduction: Of the squares over a vector: ``sum`` is the formula's, next to which λ is as good as nothing at
            1280 channels; ``mean`` is ours.
    """

    contrastive_weight: float = 0.2
    temperature: float = 0.01
    is_normalised: bool = True
    reduction: Literal["mean", "sum"] = "mean"


def prior_terms(
    predicted: Float[Tensor, "sample dim"],
    target: Float[Tensor, "sample dim"],
    pooled: Float[Tensor, "sample dim"],
    loss: PriorLoss,
) -> Mapping[str, Float[Tensor, ""]]:
    """``projection`` and ``contrastive``, each a mean over samples; texts of all ranks are contrasted with.

    Args:
        predicted: Vectors that the prior makes.
        target: Those of the pictures.
        pooled: Those of the captions, with nothing overwritten.
        loss: What is summed, and how.
    """
    squares = (predicted.float() - target.float()).square()
    distance = squares.mean(1) if loss.reduction == "mean" else squares.sum(1)
    return {"projection": distance.mean(), "contrastive": _contrastive(predicted.float(), pooled.float(), loss)}


def _contrastive(
    predicted: Float[Tensor, "sample dim"], pooled: Float[Tensor, "sample dim"], loss: PriorLoss
) -> Float[Tensor, ""]:
    """From pictures to texts, as the equation has it. Only texts are gathered: nothing learns through them."""
    texts, first = _gathered(pooled)
    if loss.is_normalised:
        predicted, texts = functional.normalize(predicted), functional.normalize(texts)
    own = torch.arange(first, first + len(predicted), device=predicted.device)
    return functional.cross_entropy(predicted @ texts.T / loss.temperature, own)


def _gathered(rows: Float[Tensor, "sample dim"]) -> tuple[Float[Tensor, "all dim"], int]:
    """All ranks' rows, and where this one's begin."""
    if not torch.distributed.is_initialized():
        return rows, 0
    found = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
    torch.distributed.all_gather(found, rows.contiguous())
    return torch.cat(found), torch.distributed.get_rank() * len(rows)
