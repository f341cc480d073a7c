"""Boxes drawn at random, all of them inside the picture and within limits of area and aspect."""

import math
from dataclasses import dataclass
from random import Random

from manifests.record import Box


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxLimits:
    """What boxes may be drawn.

    Attributes:
        width: Of the picture, in pixels.
        height: Of the picture, in pixels.
        area: Least and most share of the picture's area.
        aspect: Least and most width / height of the box.
    """

    width: int
    height: int
    area: tuple[float, float]
    aspect: tuple[float, float]

    @property
    def can_hold(self) -> bool:
        """Whether the picture can hold any such box."""
        return self._largest >= self.area[0]

    @property
    def _largest(self) -> float:
        """The largest share for which some allowed aspect fits."""
        shape, (narrowest, widest) = self.width / self.height, self.aspect
        return min(self.area[1], widest / shape, shape / narrowest)

    def draw(self, rng: Random) -> Box:
        """A box: its share uniform, its aspect uniform on a logarithmic scale among those that fit, its place uniform.

        Raises:
            ValueError: If the picture can hold none.
        """
        if not self.can_hold:
            raise ValueError(f"no box within {self} fits")
        share, shape = rng.uniform(self.area[0], self._largest), self.width / self.height
        least, most = max(self.aspect[0], share * shape), min(self.aspect[1], shape / share)
        aspect = math.exp(rng.uniform(math.log(least), math.log(max(least, most))))
        area, (full_width, full_height) = share * self.width * self.height, (float(self.width), float(self.height))
        width, height = min(math.sqrt(area * aspect), full_width), min(math.sqrt(area / aspect), full_height)
        x, y = rng.random() * (full_width - width), rng.random() * (full_height - height)
        return Box(x0=x, y0=y, x1=min(x + width, full_width), y1=min(y + height, full_height))
