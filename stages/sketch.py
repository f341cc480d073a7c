"""Sketches without weights: a pencil drawing by dodging."""

import cv2
import numpy as np
from pydantic import Field

from stages.base import Params
from stages.pixels import Gray, Pixels


class SketchParams(Params):
    """How a sketch is drawn where no network draws it."""

    stroke: float = Field(
        0.01,
        gt=0,
        le=0.2,
        description="sketch without a model: how wide strokes reach, as a share of the picture's longer side.",
    )


def dodge_sketch(image: Pixels, stroke: float) -> Gray:
    """A pencil drawing of an RGB image: bright strokes on black, as edge networks draw them; 0 where nothing changes.

    A point is as bright as it is darker, in proportion, than what is around it: the photographers' "colour dodge" of a
    picture with its blurred negative, then inverted.

    Args:
        image: RGB.
        stroke: Standard deviation of the blur, as a share of the longer side.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    around = cv2.GaussianBlur(gray, (0, 0), max(stroke * max(gray.shape), 0.5), borderType=cv2.BORDER_REPLICATE)
    # One grey level more on both sides keeps the ratio of two nearly black ones from being noise.
    paper = np.minimum((gray + 1) / (around + 1), 1)
    return np.asarray(np.rint(255 * (1 - paper)), np.uint8)
