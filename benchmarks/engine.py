"""What the engine adds to every sample: three stages that do nothing, in three workers, with 20 kB a sample.

``python -m benchmarks.engine`` compares bare Ray actors, Ray Data, and this engine (which also writes its shards), each
in a process and on a Ray of its own. A figure is the CPU time of the whole tree of processes, Ray's own among them, for
two amounts of samples, one after the other on the same Ray: their difference leaves out what starting costs.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, ClassVar
from unittest.mock import patch

import numpy as np
import ray
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.circumstances import circumstances
from benchmarks.tree import Tree
from manifests.dag import ManifestFile, parse_manifest
from manifests.record import Picture, Record, Row
from pipeline.cluster import RayOptions, run_on_ray
from pipeline.progress import LineProgress
from pipeline.run import Executor, Prepared, execute, prepare
from pipeline.sources.base import Part, Source, Unit
from stages.base import Context, Params, Stage

PAYLOAD = 20_000
UNIT_ROWS = 256
LESS, MORE = 1024, 11264
"""Samples of the two amounts; also the smaller one has more units than there are readers."""
PLACES = ("first", "second", "third")
"""Ray resources that keep the three stages in three workers."""


def payload(number: int) -> bytes:
    """A sample's bytes."""
    return np.random.default_rng(number).bytes(PAYLOAD)


class _Pass:
    """A worker of bare Ray, and of Ray Data."""

    def run(self, batch: list[bytes]) -> list[bytes]:
        return batch

    def __call__(self, batch: Any) -> Any:
        return batch


def bare(samples: int, batch: int) -> None:
    """Three actors, a list of samples a call, and so many calls under way that none waits."""
    chain = [ray.remote(_Pass).options(num_cpus=0, resources={place: 1}).remote() for place in PLACES]
    running: list[Any] = []
    for start in range(0, samples, batch):
        value: Any = [payload(number) for number in range(start, min(start + batch, samples))]
        for actor in chain:
            value = actor.run.remote(value)
        running.append(value)
        if len(running) == 16:
            ray.get(running.pop(0))
    ray.get(running)
    for actor in chain:
        ray.kill(actor)


def ray_data(samples: int, batch: int) -> None:
    """Ray Data's own way: actor pools of one worker, fed with blocks as it makes them."""
    for _ in _dataset(samples, batch).iter_internal_ref_bundles():
        pass


def ray_data_written(samples: int, batch: int) -> None:
    """The same, and its own writer of shards at the end."""
    with tempfile.TemporaryDirectory() as out:
        _dataset(samples, batch).write_webdataset(out, encoder=None)


def ray_data_like_units(samples: int, batch: int) -> None:
    """The same, in blocks as large as our units."""
    with tempfile.TemporaryDirectory() as out:
        _dataset(samples, batch, samples // UNIT_ROWS).write_webdataset(out, encoder=None)


def _dataset(samples: int, batch: int, blocks: int | None = None) -> Any:
    ray.data.DataContext.get_current().enable_progress_bars = False
    dataset = ray.data.range(samples, override_num_blocks=blocks).map_batches(_filled, batch_size=UNIT_ROWS)
    for place in PLACES:
        compute = ray.data.ActorPoolStrategy(size=1)
        dataset = dataset.map_batches(_Pass, batch_size=batch, compute=compute, num_cpus=0, resources={place: 1})
    return dataset


def _filled(batch: dict[str, Any]) -> dict[str, Any]:
    numbers = batch["id"]
    return {"__key__": [f"{number:09d}" for number in numbers], "jpg": [payload(number) for number in numbers]}


class Payloads(Source):
    """So many samples with bytes for a picture."""

    gives = frozenset({"image", "caption"})

    def __init__(self, rows: int) -> None:
        self.parts = (Part("payloads", rows, "0" * 64),)

    def read(self, unit: Unit) -> list[Row]:
        """Rows that no stage has to touch."""
        return [self._row(number) for number in range(unit.start, unit.stop)]

    def _row(self, number: int) -> Row:
        image = Picture(format="jpg", width=512, height=512, data=payload(number))
        key = self.parts[0].key(number)
        return Row(record=Record(key=key, source="payloads", row=number, caption="a payload", image=image))


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingIn:
    """What the stage looks at."""

    image: Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class NothingOut:
    """What it writes."""

    image: Picture


class NothingParams(Params):
    """There is nothing to set."""


class Nothing(Stage[NothingIn, NothingOut]):
    """Give every picture back."""

    In, Out, Params = NothingIn, NothingOut, NothingParams
    reasons: ClassVar = {}

    @classmethod
    def load(cls, params: NothingParams, context: Context) -> "Nothing":
        """Ready at once."""
        return cls()

    def process(self, batch: Sequence[NothingIn]) -> list[Any]:
        """The same."""
        return [NothingOut(image=record.image) for record in batch]


def prepared_with(file: ManifestFile, source: Source, stages: Mapping[str, type[Stage[Any, Any]]]) -> Prepared:
    """A manifest bound to a source and to stages that only a benchmark knows."""
    with patch("pipeline.run.open_source", lambda _: source), patch.dict("stages.STAGES", stages):
        return prepare(file)


def ours(samples: int, batch: int) -> None:
    """A run of the engine, shards and all."""
    nodes = [
        f"- {{id: {place}, stage: nothing, batch_size: {batch}, num_cpus: 0, resources: {{{place}: 1}}, workers: 1, "
        f"needs: [{', '.join(PLACES[number - 1 : number])}]}}"
        for number, place in enumerate(PLACES)
    ]
    source = f"source: {{kind: parquet, paths: [payloads], unit_rows: {UNIT_ROWS}}}"
    text = "\n".join(["name: nothing", source, "nodes:", *nodes])
    prepared = prepared_with(parse_manifest(text, "nothing.yaml"), Payloads(samples), {"nothing": Nothing})
    run_whole(prepared, lambda job, units: run_on_ray(job, units, RayOptions()))


def run_whole(prepared: Prepared, executor: Executor) -> None:
    """A run whose shards nobody wants.

    Raises:
        RuntimeError: If a unit is left.
    """
    with tempfile.TemporaryDirectory(prefix="inlay-benchmark-") as out, open(os.devnull, "w") as nowhere:
        left = execute(prepared, Path(out), executor, LineProgress(nowhere)).left
    if left:
        raise RuntimeError(f"{left} units are left")


CONTENDERS: dict[str, Callable[[int, int], None]] = {
    "bare Ray": bare,
    "Ray Data": ray_data,
    "Ray Data, writing": ray_data_written,
    "Ray Data, writing, blocks like units": ray_data_like_units,
    "Inlay, writing": ours,
}


def start_ray(resources: Mapping[str, int]) -> None:
    """A small and quiet Ray of this process alone."""
    ray.init(
        address="local",
        num_cpus=2,
        resources=dict(resources),
        object_store_memory=500_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )


def work(contender: str, batch: int) -> None:
    """Do it all, and say a line before each part and at the end; the first part warms what the others find."""
    start_ray(dict.fromkeys(PLACES, 1))
    for samples in (LESS, LESS, MORE):
        print(samples, flush=True)
        CONTENDERS[contender](samples, batch)
        time.sleep(1)
    print("done", flush=True)
    sys.stdin.read()
    ray.shutdown()


def measured(contender: str, batch: int) -> float:
    """CPU milliseconds a sample, of a process and all below it."""
    command = [sys.executable, "-m", "benchmarks.engine", "work", contender, str(batch)]
    with (
        subprocess.Popen(  # noqa: S603  (our own arguments)
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as process,
        Tree(process.pid) as tree,
    ):
        lines = takewhile(lambda line: line.strip() != "done", process.stdout or ())
        marks = [tree.cpu_s() for line in lines if line.strip() in (str(LESS), str(MORE))]
        marks.append(tree.cpu_s())
        process.communicate()
    _, start, middle, end = marks
    return ((end - middle) - (middle - start)) / (MORE - LESS) * 1000


app = typer.Typer(add_completion=False)


@app.command()
def one(contender: str, batch: int) -> None:
    """Measure one contender once."""
    print(f"{measured(contender, batch):.3f}")


app.command(hidden=True)(work)


@app.command(name="all")
def measure_all(
    rounds: Annotated[int, typer.Option(help="How often each is measured, in turn")] = 3,
    batches: Annotated[list[int], typer.Option(help="Records a call")] = [32, 8, 1],  # noqa: B006
    out: Annotated[Path | None, typer.Option(help="JSON to write")] = None,
) -> None:
    """Measure all contenders, each in a process of its own, turn by turn; figures are written after every round."""
    figures: dict[tuple[str, int], list[float]] = defaultdict(list)
    for _ in range(rounds):
        for batch in batches:
            for contender in CONTENDERS:
                figures[contender, batch].append(measured(contender, batch))
                Console(stderr=True).print(contender, batch, figures[contender, batch])
        if out:
            out.write_text(json.dumps(_document(figures), indent=1) + "\n")
    table = Table("CPU-ms a sample", *(f"batch {batch}" for batch in batches))
    for contender in CONTENDERS:
        table.add_row(contender, *(_cell(figures[contender, batch]) for batch in batches))
    Console().print(table)


def _cell(values: Sequence[float]) -> str:
    return f"{min(values):.2f} (median {statistics.median(values):.2f})"


def _document(figures: dict[tuple[str, int], list[float]]) -> dict[str, Any]:
    rows = [
        {"contender": contender, "batch": batch, "cpu_ms_per_sample": values}
        for (contender, batch), values in figures.items()
    ]
    return {
        **circumstances("benchmarks.engine"),
        "samples": [LESS, MORE],
        "payload_bytes": PAYLOAD,
        "rows": rows,
    }


if __name__ == "__main__":
    app()
