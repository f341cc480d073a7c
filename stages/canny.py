"""Canny edges, with thresholds that may differ from picture to picture."""

import random
from typing import Annotated, Self, TypeAlias

import cv2
import numpy as np
from pydantic import Field, model_validator

from stages.base import Params
from stages.pixels import Gray, Pixels

Strength = Annotated[float, Field(ge=0, le=2040)]
Threshold: TypeAlias = Strength | tuple[Strength, Strength]


class CannyParams(Params):
    """Canny's thresholds. MUMU gives none; the ranges are ours, wide enough to vary."""

    low: Threshold = Field(
        (50, 150),
        description="canny: gradient above which an edge goes on; a number, or [least, most] to draw from per image.",
    )
    high: Threshold = Field(
        (150, 250), description="canny: gradient above which an edge starts; a number, or [least, most]."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        (low, low_most), (high, high_most) = ends(self.low), ends(self.high)
        if not (low <= low_most <= high <= high_most):
            raise ValueError(f"thresholds must rise, low before high, got low {self.low} and high {self.high}")
        return self

    def draw_thresholds(self, rng: random.Random) -> tuple[float, float]:
        """A low and a high threshold within their ranges."""
        return rng.uniform(*ends(self.low)), rng.uniform(*ends(self.high))


def ends(threshold: Threshold) -> tuple[float, float]:
    """The least and the most a threshold may be."""
    return threshold if isinstance(threshold, tuple) else (threshold, threshold)


def canny(image: Pixels, low: float, high: float) -> Gray:
    """Edges of an RGB image: 255 on an edge, else 0.

    Args:
        image: RGB.
        low: Gradient (L1 norm of 3 x 3 Sobel, 0 to 2040) above which an edge goes on.
        high: Gradient above which an edge starts.

    Source: Canny 1986, "A Computational Approach to Edge Detection".
    """
    return np.asarray(cv2.Canny(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), low, high), np.uint8)
