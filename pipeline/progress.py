"""What a run tells while it goes: bars on a terminal, a line now and then elsewhere, or JSON lines."""

import json
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bars

from manifests.histogram import Histogram
from manifests.record import to_plain
from manifests.unit_record import UnitRecord
from pipeline.hosts import worst
from pipeline.ledger import RunInfo
from pipeline.live import Live
from pipeline.retrying.attempts import rejections_of
from pipeline.totals import Rate, StepTotals, Totals

_LINE_EVERY_S = 10.0


class Progress(ABC):
    """Somebody who is told of a run's course. Who looks at the sums in another thread does so under ``lock``."""

    @contextmanager
    def watching(
        self, info: RunInfo, before: Sequence[UnitRecord], retried: Sequence[UnitRecord] = ()
    ) -> Iterator[None]:
        """Watch a run of which ``before`` is already done.

        Args:
            info: The run.
            before: Units that it has committed.
            retried: Units of retries: their rows count where they were tried last, but they are none of ``info.units``.
        """
        self.info = info
        self.totals = Totals.of((*before, *retried))
        self.totals.units = len(before)
        self.lock = threading.Lock()
        self.rate = Rate(info.rows - self.totals.rows)
        self.start()
        try:
            yield
        finally:
            self.stop()

    def committed(self, record: UnitRecord) -> None:
        """Take note of one more committed unit."""
        with self.lock:
            self.totals.add(record)
            self.rate.add(record.rows)
        self.update(record)

    @abstractmethod
    def start(self) -> None:
        """The run begins or goes on."""

    @abstractmethod
    def update(self, record: UnitRecord) -> None:
        """A unit was committed."""

    @abstractmethod
    def stop(self) -> None:
        """The run ended, well or not."""


class Together(Progress):
    """Several who are told the same."""

    def __init__(self, *parts: Progress) -> None:
        self._parts = parts

    def start(self) -> None:
        """Start each, with the same sums."""
        for part in self._parts:
            part.info, part.totals, part.rate, part.lock = self.info, self.totals, self.rate, self.lock
            part.start()

    def update(self, record: UnitRecord) -> None:
        """Tell each."""
        for part in self._parts:
            part.update(record)

    def stop(self) -> None:
        """Stop each, the last first."""
        for part in reversed(self._parts):
            part.stop()


class BarProgress(Progress):
    """A bar a step, for a terminal."""

    def __init__(self, console: Console) -> None:
        self._bars = Bars(
            TextColumn("{task.description}", justify="right"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
        )

    def start(self) -> None:
        """Draw the bars."""
        names = ["units", *(step.node for step in self.info.steps)]
        self._tasks = {name: self._bars.add_task(name, total=self.info.rows, note="") for name in names}
        self._bars.update(self._tasks["units"], total=self.info.units, note="starting workers …")
        self._bars.start()
        if self.totals.units:
            self._draw()

    def update(self, record: UnitRecord) -> None:
        """Move the bars."""
        self._draw()

    def _draw(self) -> None:
        for node, sums in self.totals.steps.items():
            entered, lost = sums.records_in, sums.records_in - sums.records_out
            speed = f"{entered / sums.seconds:,.0f}/s".rjust(9) if sums.seconds > 0 else ""
            reached = self.info.rows * entered / max(self.totals.rows, 1)
            note = f"{speed} {f'-{lost:,}' if lost > 0 else ''}"
            self._bars.update(self._tasks[node], completed=entered, total=int(reached), note=note)
        note = f"{self.totals.line}; {self.rate.line}"
        self._bars.update(self._tasks["units"], completed=self.totals.units, note=note)

    def stop(self) -> None:
        """Leave the last state on the screen."""
        self._bars.stop()


class LineProgress(Progress):
    """One readable line at the start, every ten seconds and at the end."""

    def __init__(self, stream: TextIO = sys.stdout, every_s: float = _LINE_EVERY_S) -> None:
        self._stream = stream
        self._every_s = every_s

    def start(self) -> None:
        """Begin the clock."""
        self._stopped = threading.Event()
        self._clock = threading.Thread(target=self._tick, daemon=True)
        self._say()
        self._clock.start()

    def _tick(self) -> None:
        while not self._stopped.wait(self._every_s):
            self._say()

    def update(self, record: UnitRecord) -> None:
        """Nothing: the clock speaks."""

    def stop(self) -> None:
        """Say the end."""
        self._stopped.set()
        self._clock.join()
        self._say()

    def _say(self) -> None:
        with self.lock:
            units = f"{self.totals.units:,} of {self.info.units:,} units"
            line = f"{self.info.name}: {units}; {self.totals.line}; {self.rate.line}"
        with suppress(BrokenPipeError):  # that nobody listens any more must not end a run
            print(line, file=self._stream, flush=True)


class JsonProgress(Progress):
    """A JSON object a line: the run, then each unit as it is committed, then the sums."""

    def __init__(self, stream: TextIO = sys.stdout, live: Live | None = None) -> None:
        self._stream = stream
        self._live = live or Live()

    def start(self) -> None:
        """Tell what the run is."""
        self._say("start", name=self.info.name, units=self.info.units, rows=self.info.rows, **self._sums())

    def update(self, record: UnitRecord) -> None:
        """Tell the unit."""
        rejections = [to_plain(rejection) for rejection in record.rejections]
        steps = [to_plain(step) for step in record.steps]
        self._say(
            "unit",
            unit=record.unit,
            rows=record.rows,
            kept=record.kept,
            written_bytes=record.written,
            rejections=rejections,
            steps=steps,
            units_in_flight=self._live.in_flight,
            spilled_bytes=self._live.spilled,
        )

    def stop(self) -> None:
        """Tell the sums, those by reason and by step among them."""
        rejections = [to_plain(rejection) for rejection in rejections_of(self.totals.rejected)]
        steps = [_step_sums(node, sums) for node, sums in self.totals.steps.items()]
        speed = round(self.rate.per_second, 2)
        self._say("stop", rows_per_second=speed, **self._sums(), rejections=rejections, steps=steps)

    def _sums(self) -> dict[str, int]:
        totals = self.totals
        return {
            "units_done": totals.units,
            "units_left": self.info.units - totals.units,
            "rows_done": totals.rows,
            "kept": totals.kept,
            "dropped": totals.count("dropped"),
            "failed": totals.count("failed"),
            "written_bytes": totals.written,
            "downloaded_bytes": totals.downloaded,
            "spilled_bytes": self._live.spilled,
        }

    def _say(self, event: str, **values: Any) -> None:
        plain = {"event": event, "time": round(time.time(), 3), **values}
        with suppress(BrokenPipeError):
            print(json.dumps(plain, ensure_ascii=False), file=self._stream, flush=True)


def _step_sums(node: str, sums: StepTotals) -> dict[str, Any]:
    return {
        "node": node,
        "records_in": sums.records_in,
        "records_out": sums.records_out,
        "seconds": sums.seconds,
        "batches": _percentiles(sums.batches),
        "records": _percentiles(sums.records),
        "hosts": [to_plain(error) for error in worst(sums.hosts)],
    }


def _percentiles(histogram: Histogram) -> dict[str, float]:
    quantiles = {f"p{percent}_s": round(histogram.quantile(percent / 100), 6) for percent in (50, 95, 99)}
    return {"count": histogram.count, **quantiles}
