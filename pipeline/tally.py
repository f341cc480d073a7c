"""What a step does to the unit at hand, counted batch by batch."""

from bisect import bisect_left
from collections.abc import Sequence

from manifests.record import Row
from manifests.shard import BATCH_SECONDS, StepCount


class Tally:
    """Counts of one step, taken out with each unit."""

    def __init__(self, node: str, is_download: bool) -> None:
        self.node = node
        self._is_download = is_download
        self._clear()

    def _clear(self) -> None:
        self._in = self._out = self._downloaded = 0
        self._seconds = 0.0
        self._batches = [0] * (len(BATCH_SECONDS) + 1)

    def add(self, records_in: int, after: Sequence[Row], seconds: float) -> None:
        """Count one batch: so many records went in, ``after`` is what became of its rows. An empty one is none."""
        if not records_in:
            return
        alive = [row.record for row in after if row.verdict is None]
        self._in += records_in
        self._out += len(alive)
        self._seconds += seconds
        self._batches[bisect_left(BATCH_SECONDS, seconds)] += 1
        if self._is_download:
            self._downloaded += sum(len(record.original or b"") for record in alive)

    def take(self) -> StepCount:
        """What was counted since the last call."""
        last = max((i + 1 for i, count in enumerate(self._batches) if count), default=0)
        count = StepCount(
            node=self.node,
            records_in=self._in,
            records_out=self._out,
            seconds=round(self._seconds, 6),
            batches=tuple(self._batches[:last]),
            downloaded=self._downloaded,
        )
        self._clear()
        return count
