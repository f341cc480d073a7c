"""What encoders of squares see of a picture: cut as their own preprocessing does, or whole on a plain ground."""

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from stages.models.clip_pixels import ClipPixels
from stages.pixels import Pixels

Fit: TypeAlias = Literal["auto", "own", "pad"]


@dataclass(frozen=True, slots=True)
class Squares:
    """Draws pictures for a network.

    Attributes:
        canvas: The network's own preprocessing.
        fit: ``own``: by that alone. ``pad``: the whole picture in its proportions, in the middle of a plain square.
            ``auto``: ``pad`` for crops, ``own`` for all else.
        fill: RGB of the plain square.
    """

    canvas: ClipPixels
    fit: Fit
    fill: tuple[int, int, int]

    def __call__(self, picture: Pixels, is_crop: bool) -> Tensor:
        """(channel, side, side), uint8, not yet normalised."""
        if self.fit == "own" or (self.fit == "auto" and not is_crop):
            return self.canvas.draw([picture])[0]
        square = replace(self.canvas, resized=None, fit="squash")
        return square.draw([pad(picture, self.canvas.side, self.canvas.resample, self.fill)])[0]


def pad(picture: Pixels, side: int, resample: Image.Resampling, fill: tuple[int, int, int]) -> Pixels:
    """A picture resized to ``side`` pixels on its longer side, in its proportions, on the middle of a plain square."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    square = Image.new("RGB", (side, side), fill)
    square.paste(Image.fromarray(picture).resize(size, resample), ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(square)
