"""What opening a stream costs by the number of samples: catalogs of made-up data sets, from ten thousand samples up.

``python -m benchmarks.catalog`` writes catalogs as a machine would have them after its first look at a data set, opens
them, and plans the first batch and one late in the epoch. Each size is measured in a process of its own.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from rich.console import Console
from rich.table import Table

from training.stream.buckets import Buckets
from training.stream.catalog import MEMBER, SAMPLE, Catalog
from training.stream.order import OrderParams, Segment
from training.stream.snapshot import Snapshot

PER_UNIT, UNITS_PER_PART, BATCH_SIZE = 2000, 4096, 256
_SIZES = np.array([(512, 512), (640, 448), (448, 640), (704, 384), (384, 704)], np.uint16)


def write_catalog(folder: Path, samples: int) -> list[str]:
    """A catalog of that many samples of one member each, and its units' names."""
    names, parts = [f"{number:06d}" for number in range(-(-samples // PER_UNIT))], Catalog(folder).folder
    for first in range(0, len(names), UNITS_PER_PART):
        units = names[first : first + UNITS_PER_PART]
        counts = [min(PER_UNIT, samples - int(name) * PER_UNIT) for name in units]
        write_part(parts / f"part-{first // UNITS_PER_PART:06d}", units, counts)
    return names


def write_part(folder: Path, units: list[str], counts: list[int]) -> None:
    """One part, in the form that :class:`Catalog` reads."""
    folder.mkdir(parents=True)
    total = sum(counts)
    numbers = np.arange(total)
    samples = np.zeros(total, SAMPLE)
    samples["offset"], samples["size"] = numbers % PER_UNIT * 45_056 + 512, 43_000
    samples["width"], samples["height"] = _SIZES[numbers * 2_654_435_761 % 2**32 % 5].T
    samples["member"], samples["members"], samples["key"] = numbers, 1, (numbers + 1) * 12
    members = np.zeros(total, MEMBER)
    members["size"] = 43_000
    np.save(folder / "samples.npy", samples)
    np.save(folder / "members.npy", members)
    np.save(folder / "keys.npy", np.frombuffer(b"0123456789ab" * total, np.uint8))
    (folder / "names.json").write_text('["jpg"]')
    columns = {"name": units, "path": units, "identity": units, "digest": units, "samples": counts}
    pq.write_table(pa.table(columns), folder / "units.parquet")


def resident() -> int:
    """Bytes of this process that no file backs: what it can't give back at need."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) * 1024


def opened(folder: Path, names: list[str]) -> dict[str, float]:
    """Seconds of each step of opening, and the memory they took."""
    before = resident()
    marks = [time.perf_counter()]
    snapshot = Snapshot("made up", Catalog(folder), names, Buckets())
    marks.append(time.perf_counter())
    order = OrderParams(seed=0, batch_size=BATCH_SIZE)
    segment = Segment.first(order, tuple((count,) for count in snapshot.counts), (Fraction(1),))
    for step in (0, segment.steps(1) * 9 // 10):
        plan = segment.batch_at(step)
        for _, places in segment.places(plan.bucket, plan.start, plan.start + BATCH_SIZE):
            for number in places.number.tolist():
                snapshot.entry(plan.bucket, number)
        marks.append(time.perf_counter())
    fingerprint = snapshot.fingerprint()
    marks.append(time.perf_counter())
    assert fingerprint.samples == sum(snapshot.counts)
    steps = dict(zip(("open", "first_batch", "late_batch", "fingerprint"), np.diff(marks).tolist(), strict=True))
    return {**steps, "mib": (resident() - before) / 2**20}


def measure(samples: int) -> dict[str, float]:
    """Figures of the first opening, which counts buckets, and of the next."""
    with tempfile.TemporaryDirectory() as folder:
        names = write_catalog(Path(folder), samples)
        first, again = (_in_process(Path(folder), len(names)) for _ in range(2))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return {"samples": samples, "disk_mib": size / 2**20, "first_open": first["open"], **again}


def _in_process(folder: Path, units: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.catalog", "--measure", str(folder), "--units", str(units)]
    output = subprocess.run(command, capture_output=True, check=True).stdout  # noqa: S603 (our own arguments)
    answer: dict[str, float] = json.loads(output)
    return answer


def main(
    largest: Annotated[int, typer.Option(min=10_000, help="Samples of the largest catalog")] = 100_000_000,
    out: Annotated[Path | None, typer.Option(help="Where to write the figures as JSON")] = None,
    measured: Annotated[Path | None, typer.Option("--measure", hidden=True)] = None,
    units: Annotated[int, typer.Option(hidden=True)] = 0,
) -> None:
    """Measure opening from 10,000 samples up, by tens."""
    if measured:
        print(json.dumps(opened(measured, [f"{number:06d}" for number in range(units)])))
        return
    sizes = [10**power for power in range(4, 10) if 10**power <= largest]
    rows = [measure(size) for size in sizes]
    table = Table(*rows[0], title=f"load {os.getloadavg()[0]:.1f}; seconds but for samples and MiB")
    for row in rows:
        table.add_row(*(f"{value:,.0f}" if value >= 100 else f"{value:.3f}" for value in row.values()))
    Console().print(table)
    if out:
        date = datetime.now(UTC).date().isoformat()
        out.write_text(json.dumps({"date": date, "machine": platform.processor() or platform.machine(), "rows": rows}))


if __name__ == "__main__":
    typer.run(main)
