"""Sums over committed units, and the forecast that follows from them."""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from manifests.histogram import EMPTY, Histogram
from manifests.unit_record import StepCount, UnitRecord
from pipeline.hosts import Errors

_MAX_HOSTS = 4096
"""Pairs of host and reason that are summed; beyond, those with the fewest records are forgotten."""


@dataclass(slots=True)
class StepTotals:
    """Sums of a step over units; what each is, :class:`~manifests.unit_record.StepCount` says.

    ``hosts`` sums what each unit told of its worst hosts, so of the worst of all it is nearly the whole.
    """

    records_in: int = 0
    records_out: int = 0
    seconds: float = 0.0
    downloaded: int = 0
    batches: Histogram = EMPTY
    records: Histogram = EMPTY
    hosts: Errors = field(default_factory=Counter)

    def add(self, step: StepCount) -> None:
        """Take the step's counts of one more unit in."""
        self.records_in += step.records_in
        self.records_out += step.records_out
        self.seconds += step.seconds
        self.downloaded += step.downloaded
        self.batches += step.batches
        self.records += step.records
        for error in step.hosts:
            self.hosts[error.host, error.reason] += error.count
        if len(self.hosts) > _MAX_HOSTS:
            self.hosts = Counter(dict(self.hosts.most_common(_MAX_HOSTS // 2)))


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
