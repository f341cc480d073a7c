"""Between four vectors: a grid of vectors, as λ-ECLIPSE walks between the pictures of four prompts."""

from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Interpolation: TypeAlias = Literal["bilinear", "slerp"]
"""``bilinear`` is what λ-ECLIPSE's released code does; ``slerp`` goes along arcs, and keeps lengths."""


def interpolate(
    corners: Float[Tensor, "4 dim"], size: int, kind: Interpolation = "bilinear"
) -> Float[Tensor, "row column dim"]:
    """A grid whose corners are the vectors: top left, top right, bottom left, bottom right.

    Args:
        corners: The vectors.
        size: Rows and columns, at least 2; 5 in the paper.
        kind: How it goes between them.

    Raises:
        ValueError: If there are other than four vectors, or fewer than two rows.
    """
    if corners.shape[0] != 4 or size < 2:
        raise ValueError(f"four corners and a size of 2 or more are needed, got {corners.shape[0]} and {size}")
    between = torch.lerp if kind == "bilinear" else slerp
    shares = torch.linspace(0, 1, size, dtype=corners.dtype, device=corners.device)[:, None]
    left, right = between(corners[0], corners[2], shares), between(corners[1], corners[3], shares)
    return torch.stack([between(start, end, shares) for start, end in zip(left, right, strict=True)])


def slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Along the arc between two vectors, their lengths interpolated; along the line where they point alike or apart.

    Source: Shoemake 1985, "Animating Rotation with Quaternion Curves".
    """
    lengths = torch.lerp(start.norm(), end.norm(), share)
    cosine = torch.dot(start / start.norm(), end / end.norm()).clamp(-1, 1)
    angle = torch.acos(cosine)
    if torch.sin(angle) < 1e-4:
        return torch.lerp(start, end, share)
    ways = torch.sin((1 - share) * angle) * start / start.norm() + torch.sin(share * angle) * end / end.norm()
    return lengths * ways / torch.sin(angle)
