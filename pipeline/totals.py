"""Sums over committed units, and the forecast that follows from them."""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from manifests.shard import StepCount, UnitRecord

RECORD_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds, in seconds a record, of the classes of units in :attr:`StepTotals.units`; one more has no bound."""


@dataclass(slots=True)
class StepTotals:
    """Sums of a step over units.

    ``units`` counts units by the step's mean seconds a record in them; those that no record reached are left out.
    """

    records_in: int = 0
    records_out: int = 0
    seconds: float = 0.0
    downloaded: int = 0
    units: list[int] = field(default_factory=lambda: [0] * (len(RECORD_SECONDS) + 1))
    mean_seconds: float = 0.0
    """Sum of what ``units`` counts."""

    def add(self, step: StepCount) -> None:
        """Take the step's counts of one more unit in."""
        self.records_in += step.records_in
        self.records_out += step.records_out
        self.seconds += step.seconds
        self.downloaded += step.downloaded
        if step.records_in > 0:
            mean = step.seconds / step.records_in
            self.units[bisect_left(RECORD_SECONDS, mean)] += 1
            self.mean_seconds += mean


@dataclass(slots=True)
class Totals:
    """Sums over unit records; ``written`` is bytes of shards, indices and rejects."""

    units: int = 0
    rows: int = 0
    kept: int = 0
    written: int = 0
    rejected: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    steps: dict[str, StepTotals] = field(default_factory=dict)

    @classmethod
    def of(cls, records: Iterable[UnitRecord]) -> "Totals":
        """The sums over some records."""
        totals = cls()
        for record in records:
            totals.add(record)
        return totals

    def add(self, record: UnitRecord) -> None:
        """Take one more unit in."""
        self.units += 1
        self.rows += record.rows
        self.kept += record.kept
        self.written += record.written
        for rejection in record.rejections:
            self.rejected[rejection.kind, rejection.node, rejection.reason] += rejection.count
        for step in record.steps:
            if step.node not in self.steps:
                self.steps[step.node] = StepTotals()
            self.steps[step.node].add(step)

    @property
    def downloaded(self) -> int:
        """Bytes of the files that were fetched."""
        return sum(step.downloaded for step in self.steps.values())

    def count(self, kind: str) -> int:
        """Records ``dropped`` or ``failed``."""
        return sum(count for (k, _, _), count in self.rejected.items() if k == kind)

    @property
    def line(self) -> str:
        """The sums in words."""
        return f"{self.kept:,} kept, {self.count('dropped'):,} dropped, {self.count('failed'):,} failed"


class Rate:
    """Rows a second of this run, and when it will be done.

    Counted from the first committed unit on, so that the start of workers and models does not weigh on the forecast.
    Rows of earlier runs don't count.
    """

    def __init__(self, rows_left: int) -> None:
        self._began = time.monotonic()
        self._left = rows_left
        self._rows_then = self._rows = 0

    def add(self, rows: int) -> None:
        """Count a committed unit's rows."""
        self._rows += rows
        self._left -= rows
        if not self._rows_then:
            self._began, self._rows_then = time.monotonic(), rows

    @property
    def per_second(self) -> float:
        """Rows a second; 0 before two units are committed."""
        return (self._rows - self._rows_then) / max(time.monotonic() - self._began, 1e-9)

    @property
    def line(self) -> str:
        """Both in words."""
        speed = self.per_second
        if not self._left:
            return "done"
        return f"{speed:,.1f} rows/s, ETA {duration(self._left / speed)}" if speed else "starting"


def duration(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, second = divmod(round(max(seconds, 0)), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
