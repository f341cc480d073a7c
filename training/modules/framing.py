"""How pictures were framed, in the numbers that SDXL's U-Net is told.

Source: Podell et al. 2023, "SDXL", section 2.2, "Conditioning the Model on Image Size" and "on Cropping Parameters";
their order is that of Stability AI's and diffusers' code.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from training.stream.geometry import Framing

NUMBERS = 6
"""Of a picture: its height and width as stored, the top and left of its crop, its height and width as learnt."""


def framing_numbers(framings: Sequence[Framing], device: torch.device | str = "cpu") -> Float[Tensor, "sample 6"]:
    """The numbers of targets, pixels.

    The crop's corner counts in the resized picture, which is flipped if the target is: there the crop starts as far
    from the left as it ended from the right. The paper flips nothing; this is ours.
    """
    return torch.tensor([_numbers(framing) for framing in framings], dtype=torch.float32, device=device)


def whole_numbers(size: tuple[int, int], count: int, device: torch.device | str = "cpu") -> Float[Tensor, "sample 6"]:
    """The numbers of so many pictures to be drawn, width and height in pixels: as if stored so, and nothing cropped."""
    width, height = size
    return torch.tensor([[height, width, 0, 0, height, width]], dtype=torch.float32, device=device).expand(count, -1)


def _numbers(framing: Framing) -> tuple[int, ...]:
    left = framing.resized_width - framing.left - framing.width if framing.is_flipped else framing.left
    return framing.source_height, framing.source_width, framing.top, left, framing.height, framing.width
