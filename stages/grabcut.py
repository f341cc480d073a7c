"""GrabCut: boxes to masks without weights."""

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from manifests.record import Box
from stages.base import Params
from stages.geometry import Window, grow, pixel_hull
from stages.masks import BoolArray, fill_holes, remove_specks
from stages.pixels import Pixels, resize


class GrabCutParams(Params):
    """How GrabCut cuts, and what of a mask is noise. The defaults are the cheapest that lost nothing on COCO."""

    side: int = Field(192, ge=32, le=2048, description="Longer side, in pixels, of the picture GrabCut works on.")
    iterations: int = Field(2, ge=1, le=20, description="Rounds of fitting colours and cutting.")
    context: float = Field(
        0.25, ge=0, le=4, description="Share of the box's sides looked at around it, to learn the background from."
    )
    core: float = Field(
        0.5, ge=0, lt=1, description="Axes of the ellipse in the box's middle that is surely subject, in box sides."
    )
    min_speck: float = Field(
        0.1, ge=0, le=1, description="Pieces smaller than this share of the largest piece are removed."
    )
    max_hole: float = Field(0.1, ge=0, le=1, description="Holes smaller than this share of the mask are filled.")

    def clean(self, pixels: BoolArray) -> BoolArray:
        """The mask without specks and holes."""
        return fill_holes(remove_specks(pixels, self.min_speck), self.max_hole)


def only_inside(pixels: BoolArray, box: Box) -> BoolArray:
    """The mask without what lies outside a box that is at least in part on it."""
    inside = pixel_hull(box, pixels.shape[1], pixels.shape[0])
    only = np.zeros_like(pixels)
    only[inside.slices] = pixels[inside.slices]
    return only


def grab_cut(image: Pixels, box: Box, params: GrabCutParams, seed: int) -> BoolArray:
    """The subject in a box, as a bool array of the image's size; all false where the box is too small to tell.

    Works on the box with some context, shrunk, so that its cost does not depend on the image's size.

    Args:
        image: RGB.
        box: Where the subject is; nothing outside becomes part of it.
        params: How to cut.
        seed: Of the clustering that GrabCut starts with.

    Source: Rother et al. 2004, "GrabCut: Interactive Foreground Extraction using Iterated Graph Cuts".
    """
    height, width = image.shape[:2]
    window = pixel_hull(grow(box, params.context), width, height)
    shrink = min(1.0, params.side / max(window.width, window.height))
    view = resize(image[window.slices], max(1, round(window.width * shrink)), max(1, round(window.height * shrink)))
    found = _cut(view, _trimap(view, box, window, params.core), params, seed)
    mask = np.zeros((height, width), np.bool_)
    mask[window.slices] = _enlarge(params.clean(found), window.width, window.height)
    return only_inside(mask, box)


def _trimap(view: Pixels, box: Box, window: Window, core: float) -> npt.NDArray[np.uint8]:
    """What GrabCut starts from: background outside the box, subject in its core, guesses between.

    The core keeps GrabCut from calling everything background; the box's corners, probably background, give it a
    background where the box fills the picture. On 173 COCO objects the core raised mean IoU from .57 to .71.
    """
    height, width = view.shape[:2]
    # Pixel centres, counted from the box's centre in halves of its sides.
    x = (window.x0 + (np.arange(width) + 0.5) * window.width / width - box.x0) * 2 / (box.x1 - box.x0) - 1
    y = (window.y0 + (np.arange(height) + 0.5) * window.height / height - box.y0) * 2 / (box.y1 - box.y0) - 1
    x, y = np.abs(x)[None, :], np.abs(y)[:, None]
    radius = np.hypot(x, y)
    trimap = np.where(radius <= 1.2, cv2.GC_PR_FGD, cv2.GC_PR_BGD)
    trimap[np.maximum(x, y) > 1] = cv2.GC_BGD
    trimap[radius <= core] = cv2.GC_FGD
    return trimap.astype(np.uint8)


def _cut(view: Pixels, trimap: npt.NDArray[np.uint8], params: GrabCutParams, seed: int) -> BoolArray:
    is_subject = (trimap == cv2.GC_FGD) | (trimap == cv2.GC_PR_FGD)
    if min(is_subject.sum(), (~is_subject).sum()) < _COLOURS:
        return np.zeros(trimap.shape, np.bool_)
    cv2.setRNGSeed(seed)
    background, subject = np.zeros((2, 1, 13 * _COLOURS))
    cv2.grabCut(view, trimap, None, background, subject, params.iterations, cv2.GC_INIT_WITH_MASK)
    return np.isin(trimap, (cv2.GC_FGD, cv2.GC_PR_FGD))


_COLOURS = 5
"""Gaussians OpenCV fits to either side, each of 13 numbers; it needs at least as many pixels."""


def _enlarge(mask: BoolArray, width: int, height: int) -> BoolArray:
    soft = cv2.resize(mask.astype(np.uint8) * 255, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(soft >= 128, np.bool_)
