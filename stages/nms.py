"""Non-maximum suppression: of boxes that show the same thing, the best stays. Pure numpy."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


def overlaps(box: Floats, boxes: Floats) -> Floats:
    """Intersection over union of one box, ``x0 y0 x1 y1``, with each of ``boxes``, (box, 4): (box,), in [0, 1].

    Boxes are half-open and not empty.
    """
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = sides.clip(0).prod(axis=1)
    union = (box[2:] - box[:2]).prod() + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) - shared
    return np.asarray(np.minimum(shared / union, 1.0))


def suppress(boxes: Floats, scores: Floats, labels: Ints, limits: Floats) -> Ints:
    """Which boxes stay, best first.

    Boxes are looked at from the best to the worst; one goes where it overlaps a box that stayed by more than their
    labels allow. Of equal scores the lower label comes first, then the box further left.

    Args:
        boxes: (box, ``x0 y0 x1 y1``), none empty.
        scores: (box,), numbers.
        labels: (box,), what each shows.
        limits: (label, label), symmetric: the intersection over union above which two boxes of these labels are the
            same; 1: they never are.
    """
    left = np.lexsort((*boxes.T[::-1], labels, -scores))
    kept: list[int] = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[overlaps(boxes[best], boxes[left]) <= limits[labels[best], labels[left]]]
    return np.array(kept, np.int64)
