"""Masks: COCO run-length encoding to and from bool arrays, 1-bit PNG and COCO's JSON; and their shape."""

import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as coco

from manifests.record import Box, Mask

BoolArray: TypeAlias = npt.NDArray[np.bool_]
"""``height width``; true inside the subject."""

Segmentation: TypeAlias = Sequence[Sequence[float]] | Mapping[str, Any]
"""COCO's ``segmentation``: polygons of x, y, x, y, …, or run lengths ``{"size": [height, width], "counts": …}``."""


def encode_mask(pixels: BoolArray) -> Mask:
    """The mask of a bool array."""
    height, width = pixels.shape
    return _from_rle(coco.encode(np.asfortranarray(pixels, dtype=np.uint8)), height, width)


def decode_mask(mask: Mask) -> BoolArray:
    """The mask as a new bool array of ``mask.height`` x ``mask.width``.

    Raises:
        ValueError: If its counts are damaged.
    """
    runs = _runs(mask)
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(mask.width, mask.height).T)


def mask_area(mask: Mask) -> int:
    """Pixels inside. Raises ``ValueError`` as :func:`decode_mask`."""
    return int(_runs(mask)[1::2].sum())


def pixels_box(pixels: BoolArray) -> Box | None:
    """The smallest box around what is true; ``None`` if nothing is."""
    ys, xs = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(xs):
        return None
    return Box(x0=float(xs[0]), y0=float(ys[0]), x1=float(xs[-1] + 1), y1=float(ys[-1] + 1))


def resize_mask(mask: Mask, height: int, width: int) -> Mask:
    """The mask at another size; each new pixel takes the old pixel under its centre."""
    if (mask.height, mask.width) == (height, width):
        return mask
    rows = (2 * np.arange(height) + 1) * mask.height // (2 * height)
    columns = (2 * np.arange(width) + 1) * mask.width // (2 * width)
    return encode_mask(decode_mask(mask)[np.ix_(rows, columns)])


def mask_png(mask: Mask) -> bytes:
    """The mask as a 1-bit grayscale PNG, white inside."""
    sink = io.BytesIO()
    Image.fromarray(decode_mask(mask)).save(sink, "PNG")
    return sink.getvalue()


def mask_from_coco(segmentation: Segmentation, height: int, width: int) -> Mask:
    """The mask of a COCO annotation on a picture of ``height`` x ``width`` pixels.

    Polygons are merged. Points outside the picture are moved to its edge; polygons of fewer than three points have no
    area and add nothing.

    Raises:
        ValueError: If the run lengths don't fill the picture, or a polygon is not pairs of finite numbers.
    """
    if not isinstance(segmentation, Mapping):
        return _from_polygons(segmentation, height, width)
    size, counts = list(segmentation["size"]), segmentation["counts"]
    if size != [height, width]:
        raise ValueError(f"the run lengths are for {size} (height, width), the picture is {[height, width]}")
    if isinstance(counts, str):
        mask = Mask(height=height, width=width, counts=counts)
        _runs(mask)
        return mask
    runs = np.asarray(counts, dtype=np.int64)
    _check_runs(runs, height, width)
    return _from_rle(coco.frPyObjects({"size": size, "counts": counts}, height, width), height, width)


def remove_specks(pixels: BoolArray, share: float) -> BoolArray:
    """The mask without pieces smaller than ``share`` of its largest; pixels that touch at a corner are one piece."""
    pieces, areas = _pieces(pixels, 8)
    kept = areas >= share * areas[1:].max(initial=0)
    kept[0] = False
    return np.asarray(kept[pieces], np.bool_)


def fill_holes(pixels: BoolArray, share: float) -> BoolArray:
    """The mask with the holes filled that are smaller than ``share`` of it; a gap that reaches the edge is no hole."""
    gaps, areas = _pieces(np.pad(~pixels, 1, constant_values=True), 4)
    filled = areas < share * pixels.sum()
    filled[[0, gaps[0, 0]]] = False
    return np.asarray(pixels | filled[gaps][1:-1, 1:-1], np.bool_)


def _pieces(pixels: BoolArray, connectivity: Literal[4, 8]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """A label for every pixel, 0 outside, and each label's area."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels.astype(np.uint8), connectivity=connectivity)
    return labels, stats[:, cv2.CC_STAT_AREA]


def _from_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Mask:
    clipped = []
    for polygon in polygons:
        points = np.asarray(polygon, dtype=np.float64)
        if points.ndim != 1 or len(points) % 2 or not np.isfinite(points).all():
            raise ValueError(f"a polygon is pairs of finite numbers x, y, x, y, …, got {str(polygon)[:80]}")
        # Four numbers would be read as a box; far points would make the rasteriser allocate without bound.
        if len(points) >= 6:
            clipped.append(np.clip(points.reshape(-1, 2), 0, (width, height)).ravel().tolist())
    if not clipped:
        return encode_mask(np.zeros((height, width), np.bool_))
    return _from_rle(coco.merge(coco.frPyObjects(clipped, height, width)), height, width)


def _from_rle(rle: Mapping[str, Any], height: int, width: int) -> Mask:
    return Mask(height=height, width=width, counts=rle["counts"].decode("ascii"))


def _runs(mask: Mask) -> npt.NDArray[np.int64]:
    """Lengths of the runs of 0, 1, 0, … in column-major order.

    Read here and not by pycocotools, which returns uninitialised memory where counts are short (2.0.11). Each number
    is written in groups of five bits, the lowest first, one a character from "0" (48); 32 says that another group
    follows, and 16 in the last group is the sign. From the fourth on, numbers are differences to the one two before.
    """
    groups = np.frombuffer(mask.counts.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(groups & 32 == 0)
    if not len(ends) or ends[-1] != len(groups) - 1 or groups.min() < 0 or groups.max() > 63:
        raise ValueError(f"a mask's counts are not COCO run lengths: {mask.counts[:40]!r}")
    starts = np.concatenate(([0], ends[:-1] + 1))
    if (ends - starts).max() > 11:
        raise ValueError(f"a mask's counts hold a number past 60 bits: {mask.counts[:40]!r}")
    shifts = 5 * (np.arange(len(groups)) - np.repeat(starts, ends - starts + 1))
    runs = np.add.reduceat((groups & 31) << shifts, starts)
    runs -= np.where(groups[ends] & 16, np.int64(1) << (shifts[ends] + 5), 0)
    runs[1::2] = runs[1::2].cumsum()
    runs[2::2] = runs[2::2].cumsum()
    _check_runs(runs, mask.height, mask.width)
    return runs


def _check_runs(runs: npt.NDArray[np.int64], height: int, width: int) -> None:
    area = height * width
    if (runs < 0).any() or (runs > area).any() or runs.sum() != area:
        raise ValueError(f"a mask's run lengths add up to {runs.sum()}, not to {height} x {width} = {area}")
