"""What bookkeeping costs for each unit, from ten units to a hundred thousand: it must not grow with their number.

``python -m benchmarks.scale`` makes output folders of so many unit records, with twelve steps and six reasons each, as
10,000 nodes would leave behind (no network, no stages, no shards), and does on them what a driver does: cut the source
into units, list and read what is committed, sum up, tell of a unit, print the status, forecast from it. A figure is CPU
time of this process by unit. What is done once a run (to print a table) weighs on few units; hence the last column, of
the largest number to a hundredth of it.
"""

import gc
import io
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from manifests.files import create
from manifests.histogram import EMPTY, Histogram
from manifests.record import SCHEMA_VERSION, StepUse
from manifests.unit_record import HostErrors, Rejection, StepCount, UnitRecord
from pipeline.forecast.measured import Measured
from pipeline.ledger import Layout, RunInfo
from pipeline.metrics import families
from pipeline.progress import JsonProgress
from pipeline.sources.base import cut_units
from pipeline.status import print_status
from pipeline.totals import Totals

_UNIT_ROWS = 256
_NODES = tuple(f"node{number}" for number in range(12))
_LEAST_S = 0.3
_WRITTEN = 200
_RESAMPLED = 400


def record(number: int) -> UnitRecord:
    """A unit's record as a real run writes it."""
    lost = 3 + number % 5
    rejections = [Rejection(kind="failed", node=node, reason="timeout", count=lost) for node in _NODES[:6]]
    alive = [_UNIT_ROWS - lost * min(place, 6) for place in range(len(_NODES) + 1)]
    steps = [
        StepCount(
            node=node,
            records_in=alive[place],
            records_out=alive[place + 1],
            seconds=0.01 * (place + number % 7),
            batches=Histogram.of([0.01 * (place + number % 7)] * 16),
            records=Histogram.of([0.1 * (row % 40) for row in range(_UNIT_ROWS)]) if place == 0 else EMPTY,
            hosts=_hosts(number) if place == 0 else (),
        )
        for place, node in enumerate(_NODES)
    ]
    finished = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
    return UnitRecord(
        schema_version=SCHEMA_VERSION,
        unit=number,
        source="part-00000.parquet",
        start=number * _UNIT_ROWS,
        stop=(number + 1) * _UNIT_ROWS,
        fingerprint="f" * 64,
        rows=_UNIT_ROWS,
        kept=alive[-1],
        rejections=tuple(rejections),
        steps=tuple(steps),
        tar_size=10_000_000,
        tar_sha256="a" * 64,
        index_sha256="b" * 64,
        rejects_sha256="c" * 64,
        finished_at=finished.isoformat(timespec="milliseconds"),
        index_size=100_000,
        rejects_size=10_000,
    )


def _hosts(number: int) -> tuple[HostErrors, ...]:
    """Three that every unit meets, and seven that no other does."""
    names = [f"cdn{place}.example:443" for place in range(3)] + [f"h{number}-{place}.example:443" for place in range(7)]
    return tuple(HostErrors(host=name, reason="timeout", count=1) for name in names)


def run_info(units: int) -> RunInfo:
    """What ``run.json`` says of a run of so many units."""
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        name="scale",
        manifest="",
        fingerprint=(),
        units=units,
        rows=units * _UNIT_ROWS,
        buckets=(),
        steps=tuple(StepUse(node=node, stage="stub", version=1, params="{}") for node in _NODES),
        reasons=(),
        versions=(),
        started_at="2026-01-01T00:00:00+00:00",
    )


def fill(layout: Layout, units: int) -> None:
    """An output folder of so many committed units, written without waiting for the disk."""
    for folder in layout.folders:
        folder.mkdir(parents=True, exist_ok=True)
    layout.run.write_bytes(run_info(units).to_json().encode())
    for number in range(units):
        layout.unit(record(number).name).write_bytes(record(number).to_json().encode())


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of work: ``do`` does it for ``units`` of them."""

    name: str
    units: int
    do: Callable[[], object]


def pieces(layout: Layout, units: int) -> list[Piece]:
    """What a driver does with a run of so many units."""
    records = list(layout.unit_records())
    info = run_info(units)
    totals = Totals.of(records)
    gc.collect()
    gc.freeze()  # what is kept for the other pieces is not to be looked through again and again during this one
    return [
        Piece("cut the source into units", units, lambda: cut_units([units * _UNIT_ROWS], _UNIT_ROWS)),
        Piece("commit a record", _WRITTEN, lambda: commit(layout, units)),
        Piece("list and read records (resume)", units, lambda: {r.unit: r for r in layout.unit_records()}),
        Piece("sum up", units, lambda: Totals.of(records)),
        Piece("tell of a unit (--log-json)", units, lambda: tell(info, records)),
        Piece("make the metrics (a scrape)", 1, lambda: families(info, totals)),
        Piece("status", units, lambda: print_status(layout, Console(file=io.StringIO(), width=160))),
        Piece("forecast (plan --from)", units, lambda: forecast(records)),
    ]


def commit(layout: Layout, units: int) -> None:
    """Commit some more records to a folder of so many, and take them away again."""
    paths = [layout.unit(record(units + number).name) for number in range(_WRITTEN)]
    for number, path in enumerate(paths):
        create(path, record(units + number).to_json().encode())
    for path in paths:
        path.unlink()


def tell(info: RunInfo, records: Sequence[UnitRecord]) -> None:
    """Tell of all units, one after the other."""
    progress = JsonProgress(io.StringIO())
    with progress.watching(info, []):
        for done in records:
            progress.committed(done)


def forecast(records: Sequence[UnitRecord]) -> None:
    """What a forecast takes from units, with its intervals."""
    measured = Measured.of(records, _NODES)
    for _ in measured.resampled(_RESAMPLED):
        pass


def cpu_us(piece: Piece) -> float:
    """CPU microseconds a unit, over as many times as take some tenths of a second."""
    times, began = 0, time.process_time()
    while (spent := time.process_time() - began) < _LEAST_S or not times:
        piece.do()
        times += 1
    return spent / times / piece.units * 1e6


def measure(sizes: Sequence[int], root: Path) -> dict[str, dict[int, float]]:
    """CPU microseconds a unit, by piece of work and number of units."""
    found: dict[str, dict[int, float]] = {}
    for units in sizes:
        layout = Layout(root / str(units))
        fill(layout, units)
        for piece in pieces(layout, units):
            found.setdefault(piece.name, {})[units] = cpu_us(piece)
            typer.echo(f"{units:,} units: {piece.name}: {found[piece.name][units]:,.1f} µs", err=True)
    return found


def print_table(found: dict[str, dict[int, float]], sizes: Sequence[int]) -> None:
    """The figures, and how much the largest number costs more a unit than a hundredth of it."""
    table = Table("CPU-µs a unit, at so many units", *(f"{units:,}" for units in sizes), "growth")
    for name, costs in found.items():
        growth = costs[sizes[-1]] / costs[sizes[-3]] if len(sizes) > 2 else 1.0
        table.add_row(name, *(f"{costs[units]:,.1f}" for units in sizes), f"{growth:.2f}")
    Console(width=140).print(table)


def main(
    most: Annotated[int, typer.Option(min=10, help="Largest number of units")] = 100_000,
    out: Annotated[Path | None, typer.Option(help="JSON file to write")] = None,
) -> None:
    """Measure at 10, 100, … up to the largest number of units."""
    sizes = [10**power for power in range(1, 10) if 10**power <= most]
    with tempfile.TemporaryDirectory(prefix="inlay-scale-") as root:
        found = measure(sizes, Path(root))
    print_table(found, sizes)
    if out is not None:
        about = {
            "date": datetime.now(UTC).date().isoformat(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        }
        plain = {**about, "load_average": os.getloadavg(), "cpu_us_a_unit": found}
        out.write_text(json.dumps(plain, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
