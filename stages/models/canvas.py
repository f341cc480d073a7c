"""The square that SAM and SAM 2 see: pictures onto it, boxes onto it, masks back from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from manifests.record import Box
from stages.pixels import Pixels

_MEAN = (123.675, 116.28, 103.53)
_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True, slots=True)
class Canvas:
    """A square input.

    Attributes:
        side: Pixels.
        is_padded: The picture keeps its shape and lies in the upper left, black below or beside (SAM); or else it is
            stretched to fill the square (SAM 2).

    Sources: segment_anything/utils/transforms.py, modeling/sam.py; transformers' Sam2ImageProcessor.
    """

    side: int
    is_padded: bool

    def covered(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the part of the square that a picture of ``height`` x ``width`` covers.

        At least a pixel each, where SAM's own rounding would give none to pictures thinner than 1 : 2048.
        """
        if not self.is_padded:
            return self.side, self.side
        scale = self.side / max(height, width)
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def draw(self, images: Sequence[Pixels]) -> Tensor:
        """The pictures' pixels on black squares: uint8, (picture, channel, side, side)."""
        squares = torch.zeros(len(images), 3, self.side, self.side, dtype=torch.uint8)
        for square, image in zip(squares, images, strict=True):
            height, width = self.covered(*image.shape[:2])
            square[:, :height, :width] = self._resize(image, height, width)
        return squares

    def _resize(self, image: Pixels, height: int, width: int) -> Tensor:
        """As each model's own code does: Pillow for SAM, torch for SAM 2. Both smooth; they differ by 1 at most."""
        if self.is_padded:
            resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            return torch.tensor(np.asarray(resized)).permute(2, 0, 1)
        pixels = torch.tensor(image).permute(2, 0, 1)[None]
        return F.interpolate(pixels, (height, width), mode="bilinear", antialias=True, align_corners=False)[0]

    def normalise(self, squares: Tensor, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """Drawn squares as the network takes them: zero mean, unit variance over ImageNet; 0 where no picture is.

        Args:
            squares: From :meth:`draw`, on any device.
            sizes: Height and width of each picture.
        """
        mean, std = (squares.new_tensor(x, dtype=torch.float32)[:, None, None] for x in (_MEAN, _STD))
        pixels = (squares.float() - mean) / std
        for square, size in zip(pixels, sizes, strict=True):
            height, width = self.covered(*size)
            square[:, height:] = 0
            square[:, :, width:] = 0
        return pixels

    def place(self, boxes: Sequence[Box], height: int, width: int) -> Tensor:
        """Boxes in pixels of a picture, cut at its edges, as ``x0 y0 x1 y1`` on the square: float32, (box, 4)."""
        covered_height, covered_width = self.covered(height, width)
        x, y = covered_width / width, covered_height / height
        corners = np.array([box.xyxy for box in boxes]).reshape(-1, 4).clip(0, (width, height, width, height))
        return torch.from_numpy((corners * (x, y, x, y)).astype(np.float32))

    def lift(self, logits: Tensor, height: int, width: int) -> Tensor:
        """Masks on the square, of any lower resolution, as bool masks of a picture.

        Args:
            logits: (mask, y, x) over the whole square; positive inside.
            height: Of the picture.
            width: Of the picture.

        Returns:
            (mask, height, width).
        """
        soft = logits.float()[:, None]
        if self.is_padded:
            covered_height, covered_width = self.covered(height, width)
            soft = _enlarge(soft, self.side, self.side)[:, :, :covered_height, :covered_width]
        return _enlarge(soft, height, width)[:, 0] > 0


def _enlarge(soft: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(soft, (height, width), mode="bilinear", align_corners=False)
