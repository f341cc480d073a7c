"""Box arithmetic. Boxes are in pixels and half-open, as in the record; every function is pure."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from manifests.record import Box


class Window(NamedTuple):
    """Whole pixels of a picture: columns ``[x0, x1)`` of rows ``[y0, y1)``."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Columns."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Rows."""
        return self.y1 - self.y0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window's pixels in an array of (height, width)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


def clip(box: Box, width: float, height: float) -> Box | None:
    """The part of a box inside a picture of ``width`` x ``height`` pixels; ``None`` if it lies outside."""
    x0, y0, x1, y1 = max(box.x0, 0.0), max(box.y0, 0.0), min(box.x1, width), min(box.y1, height)
    return Box(x0=x0, y0=y0, x1=x1, y1=y1) if x0 < x1 and y0 < y1 else None


def scale(box: Box, x: float, y: float) -> Box:
    """The box with its horizontal coordinates times ``x`` and its vertical ones times ``y``."""
    return Box(x0=box.x0 * x, y0=box.y0 * y, x1=box.x1 * x, y1=box.y1 * y)


def grow(box: Box, share: float) -> Box:
    """The box with ``share`` of its width added left and right, and of its height above and below."""
    x, y = share * (box.x1 - box.x0), share * (box.y1 - box.y0)
    return Box(x0=box.x0 - x, y0=box.y0 - y, x1=box.x1 + x, y1=box.y1 + y)


def hull(boxes: Sequence[Box]) -> Box:
    """The smallest box around boxes, one at least."""
    return Box(
        x0=min(box.x0 for box in boxes),
        y0=min(box.y0 for box in boxes),
        x1=max(box.x1 for box in boxes),
        y1=max(box.y1 for box in boxes),
    )


def intersection(a: Box, b: Box) -> float:
    """Square pixels that both boxes cover."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(width, 0.0) * max(height, 0.0)


def iou(a: Box, b: Box) -> float:
    """Intersection over union, in [0, 1]."""
    shared = intersection(a, b)
    return min(shared / (a.area + b.area - shared), 1.0)


def containment(a: Box, b: Box) -> float:
    """Intersection over the smaller area, in [0, 1]: 1 where one box holds the other."""
    return min(intersection(a, b) / min(a.area, b.area), 1.0)


def area_share(box: Box, width: int, height: int) -> float:
    """The box's part of the area of a picture of ``width`` x ``height`` pixels."""
    return box.area / (width * height)


def aspect(box: Box) -> float:
    """Width / height."""
    return (box.x1 - box.x0) / (box.y1 - box.y0)


def pixel_hull(box: Box, width: int, height: int) -> Window:
    """The smallest window around the box's part of a picture of ``width`` x ``height`` pixels.

    Edges within a thousandth of a pixel of a whole number count as that number, so that boxes scaled there and back
    do not grow.

    Raises:
        ValueError: If the box lies outside the picture.
    """
    inside = clip(box, width, height)
    if inside is None:
        raise ValueError(f"the box {box.xyxy} lies outside the picture of {width} x {height} pixels")
    x0, x1 = _hull(inside.x0, inside.x1, width)
    y0, y1 = _hull(inside.y0, inside.y1, height)
    return Window(x0, y0, x1, y1)


def _hull(low: float, high: float, size: int) -> tuple[int, int]:
    first = min(math.floor(low + 1e-3), size - 1)
    return first, min(max(math.ceil(high - 1e-3), first + 1), size)
