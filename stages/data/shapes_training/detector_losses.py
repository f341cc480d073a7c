"""What the detector is taught: every cell of its maps, and every query of its decoder."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

ALPHA, GAMMA = 0.25, 2.0
"""Of the focal loss. Source: Lin et al. 2017, "Focal Loss for Dense Object Detection"."""
LABEL, L1, GIOU = 2.0, 5.0, 2.0
"""Weights of the parts of a loss. Source: Liu et al. 2023, "Grounding DINO", section 4.1."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What is on a batch of pictures.

    Attributes:
        boxes: ``picture thing cxcywh``, shares of the picture.
        is_thing: ``picture thing``; rows are filled up to the most things.
        tokens: ``picture thing token``, 1 where the token says what the thing is.
        is_text: ``picture token``; prompts are filled up to the longest.
    """

    boxes: Tensor
    is_thing: Tensor
    tokens: Tensor
    is_text: Tensor


class Found(NamedTuple):
    """What a network says: logits, ``picture place token``, and boxes, ``picture place cxcywh``."""

    logits: Tensor
    boxes: Tensor


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    """Focal loss of each logit; a target between 0 and 1 lowers what a wrong answer costs, as in CenterNet.

    Source: Zhou et al. 2019, "Objects as Points", equation 1, for targets below 1.
    """
    probability = logits.sigmoid()
    right = -ALPHA * (1 - probability) ** GAMMA * functional.logsigmoid(logits)
    wrong = -(1 - ALPHA) * probability**GAMMA * functional.logsigmoid(-logits) * (1 - targets) ** 4
    return torch.where(targets == 1, right, wrong)


def corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Least and greatest x and y of boxes."""
    return boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU of boxes, broadcast. Source: Rezatofighi et al. 2019."""
    (a0, a1), (b0, b1) = corners(a), corners(b)
    shared = (torch.minimum(a1, b1) - torch.maximum(a0, b0)).clamp(min=0).prod(-1)
    union = a[..., 2:].prod(-1) + b[..., 2:].prod(-1) - shared
    hull = (torch.maximum(a1, b1) - torch.minimum(a0, b0)).prod(-1)
    return shared / (union + 1e-6) - (hull - union) / (hull + 1e-6)


def box_loss(found: Tensor, truth: Tensor) -> Tensor:
    """L1 and generalised IoU of each pair of boxes."""
    return L1 * (found - truth).abs().sum(-1) + GIOU * (1 - giou(found, truth))


def cell_centres(shapes: list[tuple[int, int]], is_picture: Tensor) -> Tensor:
    """``picture cell xy``: centres of the cells of all maps, as shares of the picture inside its padding."""
    _, height, width = is_picture.shape
    sizes = torch.stack([is_picture[:, 0].sum(1), is_picture[:, :, 0].sum(1)], dim=1)
    grids = []
    for rows, columns in shapes:
        y, x = (torch.arange(count, device=is_picture.device) + 0.5 for count in (rows, columns))
        grid = torch.stack(torch.meshgrid(x * (width / columns), y * (height / rows), indexing="xy"), dim=-1)
        grids.append(grid.flatten(0, 1))
    return torch.cat(grids) / sizes[:, None]


def dense_loss(found: Found, centres: Tensor, levels: Tensor, truth: Truth) -> dict[str, Tensor]:
    """Loss of the encoder's proposals: the cell nearest to a thing's centre says what it is, those around its box.

    Args:
        found: Of every cell; boxes may be no numbers where there is no picture.
        centres: ``picture cell xy``.
        levels: ``cell``, the number of the map that it is of.
        truth: What is there.
    """
    offset = (centres[:, None] - truth.boxes[:, :, None, :2]) / truth.boxes[:, :, None, 2:]  # picture thing cell xy
    distance = offset.square().sum(-1).masked_fill(~truth.is_thing[..., None], torch.inf)
    bump = torch.exp(-distance / (2 * 0.18**2)) * 0.98
    for level in levels.unique():
        nearest = distance.masked_fill(levels != level, torch.inf).argmin(-1, keepdim=True)
        bump.scatter_(2, nearest, truth.is_thing[..., None].float())
    valid = found.boxes.isfinite().all(-1)
    targets = torch.einsum("bkn,bkt->bnkt", bump, truth.tokens).amax(2)
    use = valid[..., None] & truth.is_text[:, None]
    count = truth.is_thing.sum()
    label = focal(found.logits.masked_fill(~use, 0.0), targets)[use].sum() / count
    picture, thing, cell = torch.nonzero((distance < 0.3**2) & valid[:, None], as_tuple=True)
    box = box_loss(found.boxes[picture, cell].sigmoid(), truth.boxes[picture, thing]).mean()
    return {"dense_label": LABEL * label, "dense_box": box}


def set_loss(found: Found, truth: Truth) -> dict[str, Tensor]:
    """Loss of the decoder's queries, each thing's own one by the best assignment. Source: Carion et al. 2020."""
    picture, query, thing = _assign(found, truth)
    targets = torch.zeros_like(found.logits)
    targets[picture, query] = truth.tokens[picture, thing]
    use = truth.is_text[:, None].expand_as(found.logits)
    count = truth.is_thing.sum()
    label = focal(found.logits[use], targets[use]).sum() / count
    box = box_loss(found.boxes[picture, query], truth.boxes[picture, thing]).sum() / count
    return {"label": LABEL * label, "box": box}


@torch.no_grad()
def _assign(found: Found, truth: Truth) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of a query and a thing: the number of the picture, of the query, of the thing."""
    logits = found.logits.masked_fill(~truth.is_text[:, None], -20.0)[:, :, None]
    gain = focal(logits, torch.ones_like(logits)) - focal(logits, torch.zeros_like(logits))
    share = truth.tokens / truth.tokens.sum(-1, keepdim=True).clamp(min=1)
    cost = LABEL * (gain * share[:, None]).sum(-1) + box_loss(found.boxes[:, :, None], truth.boxes[:, None])
    pairs = []
    for number, (costs, things) in enumerate(zip(cost.cpu(), truth.is_thing.sum(1).tolist(), strict=True)):
        queries, own = linear_sum_assignment(costs[:, :things])
        pairs += [(number, query, thing) for query, thing in zip(queries, own, strict=True)]
    picture, query, thing = torch.tensor(pairs, device=cost.device).T
    return picture, query, thing


def decoder_answers(model: Any, output: Any, is_text: Tensor) -> list[Found]:
    """What each layer of the decoder says, the last one last."""
    references = [output.init_reference_points, *output.intermediate_reference_points.unbind(1)]
    answers = []
    for level, hidden in enumerate(output.intermediate_hidden_states.unbind(1)):
        logits = hidden @ output.encoder_last_hidden_state_text.transpose(1, 2)
        boxes = (model.bbox_embed[level](hidden) + torch.logit(references[level], eps=1e-5)).sigmoid()
        answers.append(Found(logits.masked_fill(~is_text[:, None], -20.0), boxes))
    return answers
