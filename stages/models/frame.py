"""What a Grounding DINO sees: a picture resized, normalised, and padded on the right and below."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stages.models.ahead import moved
from stages.pixels import Pixels

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """How pictures are brought to a detector's size.

    Attributes:
        short_side: Pixels of the shorter side, unless the longer one would pass its limit.
        long_side: Limit of the longer side, in pixels.
        multiple: Padded sides are multiples of this, so that pictures of few shapes come in; 64 is the coarsest
            network map's stride. It depends on the picture alone, never on those beside it.
        is_rounded_first: At the limit, the shorter side is rounded before the longer one is taken from it, as
            groundingdino does and transformers does not.
        mean: Of each channel in [0, 1].
        std: Likewise.

    Sources: transformers' ``get_size_with_aspect_ratio``; groundingdino/datasets/transforms.py ``resize``.
    """

    short_side: int = 800
    long_side: int = 1333
    multiple: int = 64
    is_rounded_first: bool = False
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def fitted(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture is resized to.

        At least a pixel, and not much more than the limit, where the packages' rounding would give very thin pictures
        no pixel or thousands.
        """
        short, long = min(height, width), max(height, width)
        exact = min(float(self.short_side), self.long_side * short / long)
        new = max(round(exact), 1)
        if new == short and long <= self.long_side + self.multiple:
            return height, width
        longer = max(int((new if self.is_rounded_first else exact) * long / short), 1)
        sides = new, min(longer, self.long_side + self.multiple)
        return sides if height <= width else sides[::-1]

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the frame around a picture of ``height`` x ``width`` pixels."""
        high, wide = (-(-side // self.multiple) * self.multiple for side in self.fitted(height, width))
        return high, wide

    def draw(self, image: Pixels) -> Tensor:
        """A picture's pixels at the detector's size: uint8, (channel, y, x)."""
        height, width = self.fitted(*image.shape[:2])
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
        return torch.tensor(np.asarray(resized)).permute(2, 0, 1).contiguous()

    def fill(self, drawn: Sequence[Tensor], count: int, padded: tuple[int, int], device: str) -> tuple[Tensor, Tensor]:
        """Frames around drawn pictures, black ones after them.

        Args:
            drawn: From :meth:`draw`; one at least.
            count: Frames, as many as pictures or more.
            padded: Height and width of the frames.
            device: Where they go.

        Returns:
            Normalised pixels, (frame, channel, y, x), 0 where no picture is; and where one is, (frame, y, x).
        """
        pixels = torch.zeros(count, 3, *padded, device=device)
        is_picture = torch.zeros(count, *padded, dtype=torch.bool, device=device)
        is_picture[len(drawn) :] = True  # a frame without any picture would divide by zero
        mean, std = (torch.tensor(x, device=device)[:, None, None] for x in (self.mean, self.std))
        for number, picture in enumerate(drawn):
            _, height, width = picture.shape
            pixels[number, :, :height, :width] = (moved(picture, device) / 255 - mean) / std
            is_picture[number, :height, :width] = True
        return pixels, is_picture
