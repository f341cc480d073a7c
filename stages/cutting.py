"""Parts of a picture, cut out of its original at the original's resolution."""

from typing import Annotated, Protocol

import cv2
import numpy as np
from pydantic import Field

from manifests.record import Box, Mask, Picture
from stages.base import Params
from stages.geometry import Window, pixel_hull, scale
from stages.masks import decode_mask
from stages.pixels import Gray, Pixels, resize, write_jpeg
from stages.web_image import open_image

Channel = Annotated[int, Field(ge=0, le=255)]


class CutParams(Params):
    """What a manifest may set on every stage that cuts."""

    fill: tuple[Channel, Channel, Channel] = Field(
        (255, 255, 255), description="RGB, 0 to 255, around what is cut along its mask."
    )
    max_side: int = Field(
        1024, ge=16, description="A crop's longer side is shrunk to this many pixels; none is enlarged."
    )
    jpeg_quality: int = Field(95, ge=1, le=100, description="libjpeg's quality of the crops.")


class Cuttable(Protocol):
    """What is cut from: the ``In`` view of a stage that cuts, with these fields of a record."""

    @property
    def original(self) -> bytes:
        """The file as it was fetched."""

    @property
    def original_width(self) -> int:
        """Pixels across the upright original."""

    @property
    def original_height(self) -> int:
        """Pixels down the upright original."""

    @property
    def image(self) -> Picture:
        """The picture that boxes and masks are on."""


def window_of(record: Cuttable, box: Box) -> Window:
    """The pixels of the original that a box on ``record.image`` covers, if only in part.

    Raises:
        ValueError: If the box lies outside the picture.
    """
    x, y = record.original_width / record.image.width, record.original_height / record.image.height
    return pixel_hull(scale(box, x, y), record.original_width, record.original_height)


def cut(record: Cuttable, window: Window, params: CutParams, mask: Mask | None = None) -> Picture:
    """A window of the original as a JPEG, in its proportions.

    Args:
        record: What to cut from.
        window: Pixels of the original.
        params: How large the crop may be, how well it is kept, and what colour is outside the mask.
        mask: What to keep of the window, of any size over the whole picture; ``None``: all of it.
    """
    original = open_image(record.original, record.original_width * record.original_height)
    pixels = original[window.slices]
    if mask:
        height, width = original.shape[:2]
        pixels = blend(pixels, soft_mask(mask, height, width)[window.slices], params.fill)
    return write_jpeg(_shrink(pixels, params.max_side), params.jpeg_quality)


def soft_mask(mask: Mask, height: int, width: int) -> Gray:
    """A mask at another size with linear edges: 0 outside, 255 inside."""
    hard = decode_mask(mask).astype(np.uint8) * 255
    return np.asarray(cv2.resize(hard, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def blend(pixels: Pixels, alpha: Gray, fill: tuple[int, int, int]) -> Pixels:
    """``pixels`` over a plain RGB ``fill``, by an ``alpha`` from 0 (fill) to 255 (pixels)."""
    inside = alpha[:, :, None].astype(np.uint16)
    mixed = (pixels * inside + np.array(fill, np.uint16) * (255 - inside) + 127) // 255
    return mixed.astype(np.uint8)


def _shrink(pixels: Pixels, max_side: int) -> Pixels:
    height, width = pixels.shape[:2]
    factor = min(1.0, max_side / max(height, width))
    return resize(pixels, max(1, round(width * factor)), max(1, round(height * factor)))
