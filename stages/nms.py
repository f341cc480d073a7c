"""Non-maximum suppression: of boxes that show the same thing, the best stays. Pure numpy."""

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.floating]
Ints: TypeAlias = npt.NDArray[np.int64]


def overlaps(box: Floats, boxes: Floats, over: Literal["union", "smaller"] = "union") -> Floats:
    """How much one box, ``x0 y0 x1 y1``, shares with each of ``boxes``, (box, 4): (box,), in [0, 1].

    Boxes are half-open and not empty.

    Args:
        box: The one.
        boxes: The others.
        over: What the shared area is divided by: that of both together, or that of the smaller.
    """
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = sides.clip(0).prod(axis=1)
    one, others = (box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    whole = one + others - shared if over == "union" else np.minimum(one, others)
    return np.asarray(np.minimum(shared / whole, 1.0))


def suppress(boxes: Floats, scores: Floats, threshold: float, over: Literal["union", "smaller"] = "union") -> Ints:
    """The numbers of the boxes that stay, the highest score first; of equal scores the first.

    Args:
        boxes: (box, ``x0 y0 x1 y1``), none empty.
        scores: (box,).
        threshold: Boxes that overlap one that stays by more than this go.
        over: As in :func:`overlaps`.
    """
    order = np.argsort(-scores, kind="stable")
    return _sweep(order, lambda best, left: overlaps(boxes[best], boxes[left], over) <= threshold)


def suppress_labelled(boxes: Floats, scores: Floats, labels: Ints, limits: Floats) -> Ints:
    """Which boxes stay, best first, where it depends on their labels how much they may overlap.

    Of equal scores the lower label comes first, then the box further left.

    Args:
        boxes: (box, ``x0 y0 x1 y1``), none empty.
        scores: (box,), numbers.
        labels: (box,), what each shows.
        limits: (label, label), symmetric: the intersection over union above which two boxes of these labels are the
            same; 1: they never are.
    """
    order = np.lexsort((*boxes.T[::-1], labels, -scores))
    return _sweep(order, lambda best, left: overlaps(boxes[best], boxes[left]) <= limits[labels[best], labels[left]])


def _sweep(order: Ints, may_stay: Callable[[int, Ints], npt.NDArray[np.bool_]]) -> Ints:
    """From the best to the worst: each stays that no better one, which stayed, forbids."""
    kept: list[int] = []
    while len(order):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[may_stay(best, order)]
    return np.array(kept, np.int64)
