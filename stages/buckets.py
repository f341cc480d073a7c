"""Sizes that a batch of latents can share: pictures of near shape are cut to one size."""

import math

from stages.pixels import Pixels, resize


def bucket_size(bucket: float, side: int, multiple: int) -> tuple[int, int]:
    """Width and height of a bucket's pictures, as the stream has them: about ``side`` squared pixels, in ``multiple``s.

    Args:
        bucket: Width / height.
        side: Of the square bucket.
        multiple: Pixels.
    """
    width, height = side * math.sqrt(bucket), side / math.sqrt(bucket)
    return _nearest(width, multiple), _nearest(height, multiple)


def _nearest(length: float, multiple: int) -> int:
    return max(1, math.floor(length / multiple + 0.5)) * multiple


def cover(pixels: Pixels, width: int, height: int) -> Pixels:
    """The picture's middle in another size: as much of it as has that shape, to within a pixel, resized.

    It is cut before it is resized, so that however thin a picture is, nothing larger than the result is made.
    """
    window_width, window_height = pixels.shape[1], pixels.shape[0]
    if window_width * height > window_height * width:
        window_width = max(1, round(window_height * width / height))
    else:
        window_height = max(1, round(window_width * height / width))
    left, top = (pixels.shape[1] - window_width) // 2, (pixels.shape[0] - window_height) // 2
    return resize(pixels[top : top + window_height, left : left + window_width], width, height)
