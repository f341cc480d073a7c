"""Aspect buckets: which size a picture is trained at."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

RATIOS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Width / height. Source: UNIMO-G, section 3 (five aspect buckets)."""

UNUSABLE = 255
"""What :meth:`Buckets.assign` says of a picture without a size."""


def bucket_size(ratio: float, base: int, multiple: int = 64) -> tuple[int, int]:
    """Width and height nearest to ``base`` squared pixels at an aspect ratio, each a multiple of ``multiple``.

    Raises:
        ValueError: If a side would be nothing.
    """
    sides = base * math.sqrt(ratio), base / math.sqrt(ratio)
    width, height = (math.floor(side / multiple + 0.5) * multiple for side in sides)
    if not (width and height):
        raise ValueError(f"ratio {ratio} at base {base} is thinner than half of multiple {multiple}; raise base")
    return width, height


@cache
def _sizes(ratios: tuple[float, ...], base: int, multiple: int) -> tuple[tuple[int, int], ...]:
    return tuple(bucket_size(ratio, base, multiple) for ratio in ratios)


@dataclass(frozen=True, slots=True)
class Buckets:
    """Aspect buckets at one base size.

    Attributes:
        ratios: Width / height, rising.
        base: Side of the square bucket, pixels.
        multiple: What widths and heights are divisible by.
    """

    ratios: tuple[float, ...] = RATIOS
    base: int = 512
    multiple: int = 64

    def __post_init__(self) -> None:
        if not (self.ratios and self.ratios[0] > 0 and list(self.ratios) == sorted(set(self.ratios))):
            raise ValueError(f"ratios must rise from above 0, got {self.ratios}")
        if len(self.ratios) >= UNUSABLE:
            raise ValueError(f"there may be {UNUSABLE - 1} ratios, got {len(self.ratios)}")
        if not (self.base > 0 and self.multiple > 0):
            raise ValueError(f"base and multiple must be above 0, got {self.base} and {self.multiple}")
        for ratio in self.ratios:
            bucket_size(ratio, self.base, self.multiple)

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Width and height of every bucket, pixels."""
        return _sizes(self.ratios, self.base, self.multiple)

    def assign(self, width: npt.NDArray[np.integer], height: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """The bucket nearest to each picture on a logarithmic scale, the smaller on a tie; as a number.

        A picture lies beyond the middle of two buckets if the square of its ratio is above their product: the rule of
        :func:`manifests.shard.aspect_bucket` without logarithms, whose last bit depends on the machine. Sides that
        are not above 0, as an index has them where it does not know, give :data:`UNUSABLE`.
        """
        across, down = np.square(width, dtype=np.float64), np.square(height, dtype=np.float64)
        number = np.zeros(across.shape, np.uint8)
        for left, right in zip(self.ratios, self.ratios[1:], strict=False):
            number += across > left * right * down
        return np.where((width > 0) & (height > 0), number, np.uint8(UNUSABLE))
