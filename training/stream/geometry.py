"""How a picture is framed for training, and the same for all that belongs to it: masks, controls and boxes."""

from typing import Literal, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import Struct

from training.stream.keyed import Draws

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""sRGB, uint8, (height, width, 3)."""

Bools: TypeAlias = npt.NDArray[np.bool_]
"""A mask, (height, width); true inside."""

Box: TypeAlias = tuple[float, float, float, float]
"""``x0 y0 x1 y1`` in pixels, half-open."""

Crop: TypeAlias = Literal["random", "centre"]


class Framing(Struct, frozen=True, kw_only=True, gc=False):
    """A picture resized, then cropped, then perhaps flipped.

    Attributes:
        source_width: Of the stored picture, pixels; boxes count in these.
        source_height: Likewise.
        resized_width: Of the whole picture before the crop.
        resized_height: Likewise.
        left: Where the crop starts in the resized picture.
        top: Likewise.
        width: Of the crop: the bucket's.
        height: Likewise.
        is_flipped: Whether left and right change places after the crop.
    """

    source_width: int
    source_height: int
    resized_width: int
    resized_height: int
    left: int
    top: int
    width: int
    height: int
    is_flipped: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether nothing is cropped away."""
        return (self.width, self.height) == (self.resized_width, self.resized_height)


def cover(source: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """The size, (width, height), of a picture resized so that it just covers ``size``: one side fits exactly."""
    scale = max(size[0] / source[0], size[1] / source[1])
    return max(size[0], round(source[0] * scale)), max(size[1], round(source[1] * scale))


def frame(
    source: tuple[int, int], size: tuple[int, int], draws: Draws, crop: Crop = "random", flip_rate: float = 0.0
) -> Framing:
    """The framing of a picture for a bucket.

    Args:
        source: Width and height of the picture.
        size: Width and height of the bucket.
        draws: Of the sample; named ``crop_left``, ``crop_top`` and ``flip``.
        crop: Where to crop: anywhere, or in the middle.
        flip_rate: How often to flip.
    """
    resized = cover(source, size)
    room_x, room_y = resized[0] - size[0], resized[1] - size[1]
    is_random = crop == "random"
    return Framing(
        source_width=source[0],
        source_height=source[1],
        resized_width=resized[0],
        resized_height=resized[1],
        left=draws.integer("crop_left", room_x + 1) if is_random and room_x else room_x // 2,
        top=draws.integer("crop_top", room_y + 1) if is_random and room_y else room_y // 2,
        width=size[0],
        height=size[1],
        is_flipped=flip_rate > 0 and draws.chance("flip", flip_rate),
    )


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize by area averaging where no side grows, by cubic interpolation otherwise."""
    if (height, width) == pixels.shape[:2]:
        return pixels
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=method), np.uint8)


def mirror(pixels: Pixels) -> Pixels:
    """The picture with left and right in each other's place."""
    return np.asarray(cv2.flip(pixels, 1), np.uint8)


def frame_pixels(pixels: Pixels, framing: Framing, out: Pixels | None = None) -> Pixels:
    """The framed picture, written to ``out`` if given.

    ``pixels`` may be of any size: a control image's, or a picture decoded at half size; and may be ``out`` itself.
    """
    if pixels is out and framing.is_whole and not framing.is_flipped:
        return pixels
    resized = resize(pixels, framing.resized_width, framing.resized_height)
    framed = resized[framing.top : framing.top + framing.height, framing.left : framing.left + framing.width]
    framed = framed[:, ::-1] if framing.is_flipped else framed
    if out is None:
        return np.ascontiguousarray(framed)
    out[...] = framed
    return out


def frame_mask(mask: Bools, framing: Framing) -> Bools:
    """The framed mask: each pixel takes the one under its centre. ``mask`` may be of any size."""
    rows = _under(framing.top, framing.height, framing.resized_height, mask.shape[0])
    columns = _under(framing.left, framing.width, framing.resized_width, mask.shape[1])
    return mask[rows][:, columns[::-1] if framing.is_flipped else columns]


def _under(start: int, count: int, resized: int, source: int) -> npt.NDArray[np.intp]:
    return (2 * np.arange(start, start + count) + 1) * source // (2 * resized)


def frame_box(box: Box, framing: Framing) -> Box:
    """The box in the framed picture; it may reach outside."""
    across = framing.resized_width / framing.source_width
    down = framing.resized_height / framing.source_height
    left, right = box[0] * across - framing.left, box[2] * across - framing.left
    if framing.is_flipped:
        left, right = framing.width - right, framing.width - left
    return left, box[1] * down - framing.top, right, box[3] * down - framing.top


def visible_share(box: Box, framing: Framing) -> float:
    """The share in [0, 1] of a box's area that the framed picture shows."""
    x0, y0, x1, y1 = frame_box(box, framing)
    width = min(x1, framing.width) - max(x0, 0)
    height = min(y1, framing.height) - max(y0, 0)
    return max(width, 0) * max(height, 0) / ((x1 - x0) * (y1 - y0))


def fitted(width: int, height: int, side: int) -> tuple[int, int]:
    """Width and height of a picture resized so that its longer side is ``side``."""
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def pad(pixels: Pixels, side: int, fill: tuple[int, int, int]) -> Pixels:
    """A picture that is no larger in the middle of a square, the rest filled with a colour."""
    rows, columns = side - pixels.shape[0], side - pixels.shape[1]
    if not (rows or columns):
        return pixels
    top, left = rows // 2, columns // 2
    border = cv2.BORDER_CONSTANT
    square = cv2.copyMakeBorder(pixels, top, rows - top, left, columns - left, border, value=fill)
    return np.asarray(square, np.uint8)
