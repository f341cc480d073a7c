"""Seconds by classes with fixed bounds: sums over units stay exact, and percentiles follow to within a class."""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from operator import add

BOUNDS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0),
)
"""Upper bounds of the classes, in seconds; one more has no bound. Unit records count by them: they never change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How many of some durations lie in each class.

    ``counts`` begins with the shortest and leaves out the empty classes at its end; ``seconds`` is their sum.
    """

    counts: tuple[int, ...] = ()
    seconds: float = 0.0

    @classmethod
    def of(cls, durations_s: Iterable[float]) -> "Histogram":
        """The classes of some durations; a bound itself belongs below it."""
        counts, total = [0] * (len(BOUNDS_S) + 1), 0.0
        for duration in durations_s:
            counts[bisect_left(BOUNDS_S, duration)] += 1
            total += duration
        while counts and not counts[-1]:
            counts.pop()
        return cls(counts=tuple(counts), seconds=round(total, 6))

    def __add__(self, other: "Histogram") -> "Histogram":
        """Both together."""
        if not other.counts:
            return self
        short, long = self.counts, other.counts
        if len(short) > len(long):
            short, long = long, short
        sums = (*map(add, short, long), *long[len(short) :])
        return Histogram(counts=sums, seconds=self.seconds + other.seconds)

    @property
    def count(self) -> int:
        """How many durations."""
        return sum(self.counts)

    @property
    def cumulative(self) -> list[int]:
        """How many lie at or below each bound, and last all of them."""
        return list(accumulate((*self.counts, *[0] * (len(BOUNDS_S) + 1 - len(self.counts)))))

    def quantile(self, share: float) -> float:
        """Seconds that ``share`` of the durations, in [0, 1], do not exceed, as Prometheus interpolates them.

        Above the last bound it is that bound; of no durations, 0.
        """
        wanted = share * self.count
        below, lower = 0, 0.0
        for upper, inside in zip(BOUNDS_S, self.counts, strict=False):
            if inside and below + inside >= wanted:
                return lower + (upper - lower) * (wanted - below) / inside
            below, lower = below + inside, upper
        return lower if self.count else 0.0


EMPTY = Histogram()
"""Of no durations."""
