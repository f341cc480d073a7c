"""What a run tells adds up, whoever listens."""

import io
from collections.abc import Callable, Sequence

import pytest
from rich.console import Console

from manifests.record import SCHEMA_VERSION
from manifests.unit_record import Rejection, StepCount, UnitRecord
from pipeline.progress import BarProgress, LineProgress, Progress
from pipeline.run import Prepared
from pipeline.totals import Rate, Totals, duration


def unit(number: int, rows: int = 10, dropped: int = 3) -> UnitRecord:
    return UnitRecord(
        schema_version=SCHEMA_VERSION,
        unit=number,
        source="part0",
        start=number * rows,
        stop=(number + 1) * rows,
        fingerprint="f",
        rows=rows,
        kept=rows - dropped,
        rejections=(Rejection(kind="dropped", node="paint", reason="unlucky", count=dropped),),
        steps=(
            StepCount(node="paint", records_in=rows, records_out=rows - dropped, seconds=0.5),
            StepCount(node="name", records_in=rows - dropped, records_out=rows - dropped, seconds=0.1),
        ),
        tar_size=1,
        tar_sha256="",
        index_sha256="",
        rejects_sha256=None,
        finished_at="2026-01-01T00:00:00+00:00",
    )


def watch(progress: Progress, prepared: Prepared, before: Sequence[UnitRecord]) -> None:
    with progress.watching(prepared.info, before):
        for number in range(len(before), 2):
            progress.committed(unit(number))


def test_totals_are_sums() -> None:
    totals = Totals.of([unit(0), unit(1, dropped=0)])
    assert (totals.units, totals.rows, totals.kept, totals.count("dropped"), totals.count("failed")) == (
        2,
        20,
        17,
        3,
        0,
    )
    paint = totals.steps["paint"]
    assert (paint.records_in, paint.records_out, paint.seconds) == (20, 17, 1.0)
    assert totals.line == "17 kept, 3 dropped, 0 failed"


@pytest.mark.parametrize("before", [0, 1])
def test_lines_tell_the_end(prepared: Callable[..., Prepared], before: int) -> None:
    stream = io.StringIO()
    watch(LineProgress(stream), prepared(20), [unit(number) for number in range(before)])
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith(f"toy: {before} of 3 units; ") and lines[0].endswith("starting")
    assert lines[-1] == "toy: 2 of 3 units; 14 kept, 6 dropped, 0 failed; done"


def test_bars_show_each_step_with_its_losses(prepared: Callable[..., Prepared]) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=160)
    watch(BarProgress(console), prepared(20), [])
    last = {
        name: line for line in stream.getvalue().splitlines() for name in ("units", "paint", "name") if name in line
    }
    assert "14 kept, 6 dropped, 0 failed" in last["units"]
    assert "20/s" in last["paint"] and "-6" in last["paint"]
    assert "14/14" in last["name"]


def test_a_forecast_does_not_count_the_start() -> None:
    rate = Rate(100)
    assert rate.line == "starting" and rate.per_second == 0
    rate.add(40)
    assert rate.per_second == 0
    rate.add(40)
    assert rate.per_second > 0 and "ETA" in rate.line
    rate.add(20)
    assert rate.line == "done"


@pytest.mark.parametrize(("seconds", "says"), [(0, "0:00"), (61, "1:01"), (3725, "1:02:05"), (-3, "0:00")])
def test_durations_are_read_like_a_clock(seconds: float, says: str) -> None:
    assert duration(seconds) == says
