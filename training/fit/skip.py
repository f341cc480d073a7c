"""Steps that are not taken: gradients that are no numbers, or far above what they were."""

import math
from dataclasses import dataclass

from training.config import SkipRule

_WARM, _MEMORY = 10, 100
"""Norms before spikes are told, and over about how many the mean runs. Our choice."""


@dataclass(slots=True)
class Skips:
    """What gradient norms were, and how many steps were not taken.

    Attributes:
        mean: Running mean of the norms of steps taken.
        taken: Steps taken, but for those without any gradient: their norms of 0 say nothing of the next.
        skipped: Steps not taken.
        in_row: Of those, the last ones without one taken in between.
    """

    mean: float = 0.0
    taken: int = 0
    skipped: int = 0
    in_row: int = 0

    def admits(self, norm: float, rule: SkipRule) -> bool:
        """Whether a step with such a gradient is to be taken; it is counted."""
        if not math.isfinite(norm) or (self.taken >= _WARM and norm > rule.spike * self.mean):
            self.skipped += 1
            self.in_row += 1
            return False
        self.in_row = 0
        if norm > 0:
            self.taken += 1
            self.mean += (norm - self.mean) / min(self.taken, _MEMORY)
        return True
