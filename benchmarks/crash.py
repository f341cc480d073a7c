"""What a crash costs: samples lost, samples doubled, bytes changed, and time.

``python -m benchmarks.crash all`` runs one job of 24 units on a Ray cluster of this machine, undisturbed and under each
fault, with drivers, workers and machines that are processes and are killed with SIGKILL. Where the driver dies it is
started again until the run is done.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import psutil
import pyarrow.parquet as pq
import typer
from pydantic import Field
from ray.cluster_utils import Cluster
from rich.console import Console
from rich.table import Table

from benchmarks.circumstances import circumstances
from benchmarks.engine import NothingIn, NothingOut, Payloads, prepared_with
from manifests.dag import parse_manifest
from pipeline.actor import FatalError
from pipeline.cluster import RayOptions, run_on_ray
from pipeline.ledger import Layout, ResumeError
from pipeline.progress import LineProgress
from pipeline.run import execute
from stages.base import Context, Params, Stage

UNITS, UNIT_ROWS, POISON = 24, 32, 500
STORE = 300_000_000


class PaceParams(Params):
    """What the stage does beside nothing."""

    pause_s: float = Field(0.15, description="How long a batch takes.")
    poison: int = Field(POISON, description="A row that kills its worker.")
    trigger: str = Field("", description="A file; while it is there, the row does so.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceIn(NothingIn):
    """What the stage looks at."""

    row: int


class Pace(Stage[PaceIn, NothingOut]):
    """Give every picture back after a while, or die."""

    In, Out, Params = PaceIn, NothingOut, PaceParams
    reasons: ClassVar = {}

    def __init__(self, params: PaceParams) -> None:
        self.params = params

    @classmethod
    def load(cls, params: PaceParams, context: Context) -> "Pace":
        """Ready at once."""
        return cls(params)

    def process(self, batch: Sequence[PaceIn]) -> list[Any]:
        """The same pictures."""
        time.sleep(self.params.pause_s)
        if (
            self.params.trigger
            and Path(self.params.trigger).exists()
            and any(record.row == self.params.poison for record in batch)
        ):
            os.abort()
        return [NothingOut(image=record.image) for record in batch]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A driver: where it writes, on which Ray, and what is different from the quiet run."""

    out: str
    address: str
    trigger: str
    unit_rows: int = UNIT_ROWS

    def start(self) -> "subprocess.Popen[str]":
        """Its process."""
        command = [sys.executable, "-m", "benchmarks.crash", "drive", json.dumps(asdict(self))]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # noqa: S603

    def work(self) -> None:
        """Do it, in this process."""
        text = (
            f"name: crash\nsource: {{kind: parquet, paths: [payloads], unit_rows: {self.unit_rows}}}\nnodes:\n"
            f"- {{id: first, stage: pace, resources: {{spot: 1}}, params: {{trigger: {self.trigger}}}}}\n"
            "- {id: second, stage: pace, needs: [first]}"
        )
        source = Payloads(UNITS * UNIT_ROWS)
        prepared = prepared_with(parse_manifest(text, "crash.yaml"), source, {"pace": Pace})
        options = RayOptions(address=self.address, workers=1)
        execute(prepared, Path(self.out), lambda job, units: run_on_ray(job, units, options), LineProgress())


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a faulty run compares with the quiet one."""

    fault: str
    lost: int
    doubled: int
    units_identical: int
    wall_s: float
    wall_lost_s: float


class Bench:
    """A cluster whose one machine with ``spot`` may be lost, and a folder for runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": STORE})
        self.add_machine()

    def add_machine(self) -> None:
        """One more machine with ``spot``."""
        self.machine = self.cluster.add_node(num_cpus=1, resources={"spot": 1}, object_store_memory=STORE)

    def job(self, name: str, **changes: Any) -> Job:
        """A run in a folder of its own."""
        return Job(
            out=str(self.folder / name), address=self.cluster.address, trigger=str(self.folder / "trigger"), **changes
        )


def nothing(bench: Bench, job: Job) -> None:
    """Let it run."""
    _end(job.start())


def kill_worker(bench: Bench, job: Job) -> None:
    """Kill the worker of the first stage, in the middle of a unit."""
    process = job.start()
    _wait(job, 0.25)
    for child in psutil.Process().children(recursive=True):
        if "MapWorker" in " ".join(child.cmdline()):
            child.kill()
            break
    _end(process)


def kill_driver(bench: Bench, job: Job) -> None:
    """Kill the driver at 25, 50 and 75 %, each time starting it again."""
    for share in (0.25, 0.5, 0.75):
        process = job.start()
        _wait(job, share)
        process.kill()
        process.wait()
    _end(job.start())


def lose_machine(bench: Bench, job: Job) -> None:
    """Take the machine of the first stage away, with what it holds, and give another."""
    process = job.start()
    _wait(job, 0.25)
    bench.cluster.remove_node(bench.machine, allow_graceful=False)
    bench.add_machine()
    _end(process)


def poison(bench: Bench, job: Job) -> None:
    """Let a record kill its worker whenever it is there."""
    Path(job.trigger).touch()
    _end(job.start())
    Path(job.trigger).unlink()


FAULTS: dict[str, Callable[[Bench, Job], None]] = {
    "a worker killed mid-unit": kill_worker,
    "the driver killed at 25, 50 and 75 %": kill_driver,
    "a machine lost, another comes": lose_machine,
    "a record that kills its worker": poison,
}


def _wait(job: Job, share: float) -> None:
    while len(Layout(Path(job.out)).committed()) < share * UNITS:
        time.sleep(0.01)


def _end(process: "subprocess.Popen[str]") -> None:
    _, said = process.communicate()
    if process.returncode:
        raise RuntimeError(said)


def compare(fault: str, out: Path, quiet: Path, seconds: tuple[float, float]) -> Result:
    """A run beside the quiet one; ``seconds`` of both."""
    there, should = keys(out), keys(quiet)
    poisoned = rejected(out)
    wall, calm = seconds
    return Result(
        fault=fault,
        lost=len(set(should) - set(there) - poisoned),
        doubled=sum(count - 1 for count in Counter(there).values()),
        units_identical=sum(digest(out, unit) == digest(quiet, unit) for unit in Layout(quiet).committed()),
        wall_s=round(wall, 1),
        wall_lost_s=round(wall - calm, 1),
    )


def keys(out: Path) -> list[str]:
    """The keys of all samples in a run's shards, as often as they are there."""
    layout = Layout(out)
    members = [pq.read_table(layout.index(unit), columns=["key", "member"]).to_pylist() for unit in layout.committed()]
    return [row["key"] for rows in members for row in rows if row["member"] == "json"]


def rejected(out: Path) -> set[str]:
    """The keys of all samples that were failed."""
    return {key for path in out.glob("rejects/*.parquet") for key in pq.read_table(path)["key"].to_pylist()}


def digest(out: Path, unit: str) -> str:
    """Of a unit's shard."""
    return hashlib.sha256(Layout(out).tar(unit).read_bytes()).hexdigest()


app = typer.Typer(add_completion=False)


@app.command(hidden=True)
def drive(job: str) -> None:
    """Be a driver."""
    try:
        Job(**json.loads(job)).work()
    except (FatalError, ResumeError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None


@app.command(name="all")
def measure(out: Annotated[Path | None, typer.Option(help="JSON to write")] = None) -> None:
    """Run undisturbed, then under each fault."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        calm = _timed(nothing, bench, bench.job("quiet"))
        results = [compare("none", bench.folder / "quiet", bench.folder / "quiet", (calm, calm))]
        for number, (fault, strike) in enumerate(FAULTS.items()):
            job = bench.job(str(number))
            seconds = _timed(strike, bench, job), calm
            results.append(compare(fault, Path(job.out), bench.folder / "quiet", seconds))
            Console(stderr=True).print(results[-1])
        refused = bench.job("quiet", unit_rows=2 * UNIT_ROWS).start()
        said = refused.communicate()[1].strip().replace(f"{bench.folder}/", "")
        bench.cluster.shutdown()
    _tell(results, said)
    if out:
        out.write_text(json.dumps(_document(results, refused.returncode, said), indent=1) + "\n")


def _timed(work: Callable[[Bench, Job], None], bench: Bench, job: Job) -> float:
    began = time.monotonic()
    work(bench, job)
    return time.monotonic() - began


def _tell(results: Sequence[Result], said: str) -> None:
    table = Table("fault", "lost", "doubled", f"identical of {UNITS} shards", "wall s", "lost s")
    for result in results:
        table.add_row(*map(str, asdict(result).values()))
    Console().print(table)
    print("another unit size:", said)


def _document(results: Sequence[Result], code: int, said: str) -> dict[str, Any]:
    return {
        **circumstances("benchmarks.crash"),
        "units": UNITS,
        "rows_per_unit": UNIT_ROWS,
        "rows": [asdict(result) for result in results],
        "another_unit_size": {"exit_code": code, "says": said.splitlines()},
    }


if __name__ == "__main__":
    app()
