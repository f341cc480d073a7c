"""Sums over committed units, and the forecast that follows from them."""

import heapq
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate

from manifests.shard import BATCH_SECONDS, StepCount, UnitRecord
from pipeline.hosts import heaviest

_RECENT_UNITS = 20
_HOSTS_OF_A_RUN = 1000


@dataclass(slots=True)
class StepTotals:
    """Sums of a step over units; ``batches`` counts batches by ``BATCH_SECONDS``."""

    records_in: int = 0
    records_out: int = 0
    seconds: float = 0.0
    downloaded: int = 0
    batches: list[int] = field(default_factory=lambda: [0] * (len(BATCH_SECONDS) + 1))

    def add(self, step: StepCount) -> None:
        """Take the step's counts of one more unit in."""
        self.records_in += step.records_in
        self.records_out += step.records_out
        self.seconds += step.seconds
        self.downloaded += step.downloaded
        for place, count in enumerate(step.batches):
            self.batches[place] += count

    def batch_seconds(self, quantile: float) -> float | None:
        """Seconds that the given share of batches did not exceed, evenly spread within a class; none without batches.

        Beyond the last bound it is that bound, as Prometheus's ``histogram_quantile`` has it.
        """
        if not (total := sum(self.batches)):
            return None
        below = list(accumulate(self.batches, initial=0))
        place = next(i for i, count in enumerate(below[1:]) if count >= quantile * total)
        if place == len(BATCH_SECONDS):
            return BATCH_SECONDS[-1]
        low = BATCH_SECONDS[place - 1] if place else 0.0
        share = (quantile * total - below[place]) / (self.batches[place] or 1)
        return low + (BATCH_SECONDS[place] - low) * share


@dataclass(slots=True)
class Totals:
    """Sums over unit records.

    Attributes:
        units: How many.
        rows: Source rows.
        kept: Records kept.
        written: Bytes of shards, indices and rejects.
        rejected: Records by kind, node and reason.
        steps: Sums by node.
        hosts: Failed rows of the hosts that fail most, at least.
        recent: When the units committed last were finished, as a heap.
    """

    units: int = 0
    rows: int = 0
    kept: int = 0
    written: int = 0
    rejected: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    steps: dict[str, StepTotals] = field(default_factory=dict)
    hosts: Counter[str] = field(default_factory=Counter)
    recent: list[str] = field(default_factory=list)

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
        self.written += record.tar_size + record.index_size + record.rejects_size
        for rejection in record.rejections:
            self.rejected[rejection.kind, rejection.node, rejection.reason] += rejection.count
        for step in record.steps:
            self.steps.setdefault(step.node, StepTotals()).add(step)
        for host in record.hosts:
            self.hosts[host.host] += host.rows
        if len(self.hosts) > 2 * _HOSTS_OF_A_RUN:
            self.hosts = heaviest(self.hosts, _HOSTS_OF_A_RUN)
        heapq.heappush(self.recent, record.finished_at)
        if len(self.recent) > _RECENT_UNITS:
            heapq.heappop(self.recent)

    @property
    def downloaded(self) -> int:
        """Bytes of the files that were fetched."""
        return sum(step.downloaded for step in self.steps.values())

    @property
    def units_per_second(self) -> float:
        """Speed over the units committed last, so that an earlier run's or a cold start's pace does not count."""
        ends = sorted(map(datetime.fromisoformat, self.recent))
        seconds = (ends[-1] - ends[0]).total_seconds() if len(ends) > 1 else 0.0
        return (len(ends) - 1) / seconds if seconds > 0 else 0.0

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
