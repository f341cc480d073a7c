"""What a unit costs a run's driver through Ray, by the number of units: it must not grow with it.

``python -m benchmarks.units all`` runs the engine over so many units of one small sample each, through one worker that
does nothing, each number in a process and on a Ray of its own. A figure is CPU time of the driver's process alone:
until the first unit is committed (Ray Data makes all read tasks before the first begins), and after it, by unit.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import ray
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.circumstances import circumstances
from benchmarks.engine import Nothing, Payloads, prepared_with, run_whole, start_ray
from manifests.dag import parse_manifest
from manifests.unit_record import UnitRecord
from pipeline.cluster import RayOptions, run_on_ray
from pipeline.job import Job
from pipeline.sources.base import Unit

_MANIFEST = """
name: units
source: {kind: parquet, paths: [payloads], unit_rows: 1}
nodes:
- {id: nothing, stage: nothing, workers: 1, num_cpus: 0}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a run of ``units``: seconds of the driver's CPU, seconds by the clock, and its most memory, MiB."""

    units: int
    first_cpu_s: float
    rest_cpu_s: float
    wall_s: float
    memory_mib: float

    @property
    def cpu_ms_a_unit(self) -> float:
        """After the first."""
        return self.rest_cpu_s / (self.units - 1) * 1000


class _Timed:
    """Ray as the executor, with a mark when the first unit is committed."""

    def __init__(self) -> None:
        self.first: float | None = None

    def __call__(self, job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
        for record in run_on_ray(job, units, RayOptions()):
            self.first = self.first or time.process_time()
            yield record


def work(units: int) -> None:
    """Run so many units on a Ray that is warm, and print what it cost as JSON."""
    start_ray({})
    _run(8, _Timed())
    timed, began, clock = _Timed(), time.process_time(), time.monotonic()
    _run(units, timed)
    ended = time.process_time()
    if timed.first is None:
        raise RuntimeError("no unit was committed")
    cost = Cost(
        units=units,
        first_cpu_s=timed.first - began,
        rest_cpu_s=ended - timed.first,
        wall_s=time.monotonic() - clock,
        memory_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    print(json.dumps(asdict(cost)))
    ray.shutdown()


def _run(units: int, executor: _Timed) -> None:
    prepared = prepared_with(parse_manifest(_MANIFEST, "units.yaml"), Payloads(units), {"nothing": Nothing})
    run_whole(prepared, executor)


def measured(units: int) -> Cost:
    """The cost of so many units, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.units", "work", str(units)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  (our own arguments)
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


app = typer.Typer(add_completion=False)
app.command(hidden=True)(work)


@app.command(name="all")
def measure_all(
    most: Annotated[int, typer.Option(min=100, help="Largest number of units")] = 10_000,
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    """Measure at 100, 1,000, … up to the largest number of units."""
    costs: list[Cost] = []
    for units in (10**power for power in range(2, 9) if 10**power <= most):
        costs.append(measured(units))
        Console(stderr=True).print(costs[-1])
        if out:
            out.write_text(json.dumps(_document(costs), indent=1) + "\n")
    table = Table("units", "driver CPU-s to the first", "CPU-ms a unit after it", "wall s", "driver MiB")
    for cost in costs:
        figures = cost.first_cpu_s, cost.cpu_ms_a_unit, cost.wall_s, cost.memory_mib
        table.add_row(f"{cost.units:,}", *(f"{figure:,.1f}" for figure in figures))
    Console().print(table)


def _document(costs: Sequence[Cost]) -> dict[str, object]:
    return {
        **circumstances("benchmarks.units"),
        "rows": [{**asdict(cost), "cpu_ms_a_unit": cost.cpu_ms_a_unit} for cost in costs],
    }


if __name__ == "__main__":
    app()
