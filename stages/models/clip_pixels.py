"""What image encoders of CLIP's kind see: a square cut from the picture, normalised."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stages.pixels import Pixels

Size: TypeAlias = tuple[int, int]
"""Width and height."""

Fit: TypeAlias = Literal["shortest", "longest", "squash"]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
"""Of red, green and blue in [0, 1]. Source: Radford et al. 2021, "CLIP", released code."""

_FAR = 16
"""Beyond this length, in short sides, the ends of a picture are out of sight of any cut and any smoothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPixels:
    """The way from a picture to an encoder's input.

    Attributes:
        side: Of the square that the encoder sees.
        resized: The side that ``fit`` speaks of; ``None``: ``side``.
        fit: How the picture is resized, with its shape kept unless said: its ``shortest`` side, or its ``longest``,
            becomes ``resized``; or it is stretched to the square (``squash``). What then lies outside the square is
            cut off; where there is nothing, it is black.
        resample: Pillow's way to resize.
        by: Whose rounding: transformers' processors round a margin's half down, open_clip rounds it to even.
        mean: What is subtracted from red, green and blue in [0, 1].
        std: What they are divided by then.

    Sources: transformers' ``CLIPImageProcessorPil``; open_clip's ``image_transform_v2``.
    """

    side: int
    resized: int | None = None
    fit: Fit = "shortest"
    resample: Image.Resampling = Image.Resampling.BICUBIC
    by: Literal["transformers", "open_clip"] = "transformers"
    mean: tuple[float, ...] = OPENAI_MEAN
    std: tuple[float, ...] = OPENAI_STD

    def draw(self, images: Sequence[Pixels]) -> Tensor:
        """The pictures' squares: uint8, (picture, channel, side, side)."""
        squares = np.stack([self._square(image) for image in images])
        return torch.from_numpy(squares).permute(0, 3, 1, 2).contiguous()

    def normalise(self, squares: Tensor) -> Tensor:
        """Drawn squares as the encoder takes them: float32, on the squares' device."""
        mean, std = (squares.new_tensor(x, dtype=torch.float32)[:, None, None] for x in (self.mean, self.std))
        return squares.float().div(255).sub(mean).div(std)

    def _square(self, pixels: Pixels) -> Pixels:
        near = _without_far_ends(pixels) if self.fit == "shortest" else pixels
        size = _FITS[self.fit]((near.shape[1], near.shape[0]), self.resized or self.side)
        resized = Image.fromarray(near).resize(size, self.resample)
        left, top = (self._margin(length) for length in size)
        return np.asarray(resized.crop((left, top, left + self.side, top + self.side)))

    def _margin(self, length: int) -> int:
        """Where the square begins in this length."""
        half = (length - self.side) / 2
        return math.floor(half) if self.by == "transformers" else round(half) if half > 0 else math.ceil(half)


def _shortest(size: Size, side: int) -> Size:
    width, height = size
    return (side, side * height // width) if width <= height else (side * width // height, side)


def _longest(size: Size, side: int) -> Size:
    ratio = max(size) / side
    width, height = (max(1, round(length / ratio)) for length in size)
    return width, height


def _squash(size: Size, side: int) -> Size:
    return side, side


_FITS: Mapping[Fit, Callable[[Size, int], Size]] = {"shortest": _shortest, "longest": _longest, "squash": _squash}
"""The size that a picture of a size is resized to."""


def _without_far_ends(pixels: Pixels) -> Pixels:
    """A very long picture, cut evenly at both ends, so that its resized form fits into memory."""
    height, width = pixels.shape[:2]
    for axis, (long, short) in enumerate(((height, width), (width, height))):
        cut = (long - _FAR * short) // 2
        if cut > 0:
            return np.take(pixels, range(cut, long - cut), axis=axis)
    return pixels
