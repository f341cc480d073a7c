"""Parts of pictures at other sizes by area averaging, read from tables of sums: as many parts as wanted at once."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor


def area_table(pixels: Tensor) -> Tensor:
    """For each corner between pixels the sum of all pixels left of it and above.

    Args:
        pixels: uint8, (picture, y, x, channel).

    Returns:
        int64, (picture, y + 1, x + 1, channel).

    Source: Crow 1984, "Summed-area tables for texture mapping".
    """
    return F.pad(pixels.long().cumsum(1).cumsum(2), (0, 0, 1, 0, 1, 0))


def shrink(table: Tensor, pictures: Tensor, windows: Tensor, height: int, width: int) -> Tensor:
    """Windows of pictures, each at ``height`` x ``width``; a pixel is the mean of all those it touches.

    The same as torch's ``adaptive_avg_pool2d`` of each window, but for the last bit of the mean.

    Args:
        table: From :func:`area_table`.
        pictures: int64, (window,), the picture that each is of.
        windows: int64, (window, ``x0 y0 x1 y1``), half-open, with at least a pixel inside the picture.
        height: Of what is returned.
        width: Of what is returned.

    Returns:
        float32 in [0, 255], (window, channel, height, width).
    """
    (x0, x1), (y0, y1) = _edges(windows[:, 0::2], width), _edges(windows[:, 1::2], height)
    x0, x1, y0, y1 = x0[:, None, :], x1[:, None, :], y0[:, :, None], y1[:, :, None]
    of = pictures[:, None, None]
    sums = table[of, y1, x1] - table[of, y0, x1] - table[of, y1, x0] + table[of, y0, x0]
    return (sums / ((y1 - y0) * (x1 - x0))[..., None]).permute(0, 3, 1, 2)


def _edges(ends: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where each of ``count`` pixels starts and ends on the picture: (window, count) each."""
    start, size = ends[:, :1], ends[:, 1:] - ends[:, :1]
    places = torch.arange(count, device=ends.device)
    return start + places * size // count, start + ((places + 1) * size + count - 1) // count
