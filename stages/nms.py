"""Non-maximum suppression: of boxes that overlap much, the one that scores highest."""

from typing import Literal

import numpy as np
import numpy.typing as npt


def suppress(
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    threshold: float,
    over: Literal["union", "smaller"] = "union",
) -> npt.NDArray[np.intp]:
    """The numbers of the boxes that stay, the highest score first; of equal scores the first.

    Args:
        boxes: (box, ``x0 y0 x1 y1``), half-open.
        scores: (box,).
        threshold: Boxes that overlap one that stays by more than this go.
        over: What the shared area is divided by: that of both together, or that of the smaller.
    """
    x0, y0, x1, y1 = boxes.T
    areas = (x1 - x0) * (y1 - y0)
    left = np.argsort(-scores, kind="stable")
    kept = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(best)
        width = np.minimum(x1[best], x1[left]) - np.maximum(x0[best], x0[left])
        height = np.minimum(y1[best], y1[left]) - np.maximum(y0[best], y0[left])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        smaller, both = np.minimum(areas[best], areas[left]), areas[best] + areas[left] - shared
        left = left[shared <= threshold * (both if over == "union" else smaller)]
    return np.array(kept, np.intp)
