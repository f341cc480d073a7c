"""The object in a picture's middle, and uneven margins around it."""

from collections.abc import Sequence
from random import Random

import cv2
import numpy as np

from manifests.record import Box, Mask
from stages.geometry import pixel_hull
from stages.masks import BoolArray, decode_mask

_MIDDLE = 0.25
"""Standard deviation of what counts as a picture's middle, in its sides: its middle quarter has half of the weight."""

_WAVES = 4
"""Points across the object, and down, that an uneven margin is drawn at; it is smooth between."""


def central_mask(masks: Sequence[Mask]) -> BoolArray | None:
    """Of masks of one size the one that covers most of the middle, the first on a tie; ``None`` if all are empty.

    Each pixel counts by a Gaussian around the picture's centre, so that both size and place matter.
    """
    weights = [(_middle_weight(pixels), pixels) for pixels in map(decode_mask, masks)]
    best = max(weights, key=lambda weighted: weighted[0], default=(0.0, None))
    return best[1] if best[0] > 0 else None


def _middle_weight(pixels: BoolArray) -> float:
    down, across = (np.exp(-((np.linspace(-0.5, 0.5, size) / _MIDDLE) ** 2) / 2) for size in pixels.shape)
    return float(down @ pixels @ across)


def grow_unevenly(pixels: BoolArray, box: Box, reach: float, rng: Random) -> BoolArray:
    """A mask with a margin whose width differs smoothly from place to place.

    Args:
        pixels: The mask; all of it stays.
        box: Around it.
        reach: Widest margin, in pixels.
        rng: Decides how wide the margin is where.
    """
    height, width = pixels.shape
    around = Box(x0=box.x0 - reach, y0=box.y0 - reach, x1=box.x1 + reach, y1=box.y1 + reach)
    window = pixel_hull(around, width, height)
    points = np.array([[rng.random() for _ in range(_WAVES)] for _ in range(_WAVES)], np.float32)
    margin = reach * rng.random() * cv2.resize(points, (window.width, window.height), interpolation=cv2.INTER_LINEAR)
    outside = (~pixels[window.slices]).astype(np.uint8)
    grown = pixels.copy()
    grown[window.slices] = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= margin
    return grown


def grow_box(box: Box, share: float, size: tuple[int, int], rng: Random) -> Box:
    """A box moved out by up to ``share`` of its sides, each side by itself, within a picture of (height, width)."""
    height, width = size
    x, y = share * (box.x1 - box.x0), share * (box.y1 - box.y0)
    return Box(
        x0=max(0.0, box.x0 - rng.random() * x),
        y0=max(0.0, box.y0 - rng.random() * y),
        x1=min(float(width), box.x1 + rng.random() * x),
        y1=min(float(height), box.y1 + rng.random() * y),
    )
