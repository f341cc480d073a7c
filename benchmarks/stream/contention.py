"""Whether reading slows the trainer down that it feeds: ``python -m benchmarks.stream.contention``.

A step stands for a GPU's: many small operations that one thread starts, which needs Python's lock all the time. Beside
it batches are read at the steps' own pace: by nobody, by threads of the same process as ``PromptStream`` does, or by a
process of its own, which is the least that a helper process could disturb, as handing batches over is left out.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine
from benchmarks.stream.__main__ import CACHE
from benchmarks.stream.data import Size, make_data
from training.stream.options import StreamOptions
from training.stream.recipe import STREAM_RECIPES
from training.stream.stream import PromptStream
from training.stream.world import World

RESULTS = Path(__file__).parents[1] / "results" / "stream_contention_cpu.json"
_WARM_UP = 5
_BATCH = 16


def main(
    steps: Annotated[int, typer.Option(min=10, help="Of each, a round")] = 60,
    operations: Annotated[int, typer.Option(min=1, help="Of a step; 4000 take about 12 ms")] = 4000,
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved")] = 3,
    cache: Annotated[Path, typer.Option(help="Where the data set is kept")] = CACHE,
    out: Annotated[Path, typer.Option(help="JSON file for the figures")] = RESULTS,
) -> None:
    """Measure a step's milliseconds without its wait for data, and tell."""
    torch.set_num_threads(1)
    folder = make_data(cache / "contention", Size(shards=8, samples=256), None).root
    loop = Loop(steps, operations)
    ways: Mapping[str, Callable[[], float]] = {
        "nobody": lambda: loop(lambda: None),
        "1 thread": lambda: _in_threads(str(folder), 1, loop),
        "2 threads": lambda: _in_threads(str(folder), 2, loop),
        "a process": lambda: _in_process(str(folder), loop),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    out.write_text(
        json.dumps({"machine": machine("cpu"), "batch": _BATCH, "operations": operations, "step_ms": found}, indent=1)
        + "\n"
    )
    _show(found)


def _show(found: Mapping[str, list[float]]) -> None:
    table = Table("reads", "ms a step", "min - max", "x nobody")
    alone = median(found["nobody"])
    for name, each in found.items():
        table.add_row(name, f"{median(each):.1f}", f"{min(each):.1f} - {max(each):.1f}", f"{median(each) / alone:.2f}")
    Console().print(table)


@dataclass(frozen=True, slots=True)
class Loop:
    """Steps of so many operations."""

    steps: int
    operations: int

    def __call__(self, feed: Callable[[], object]) -> float:
        """Milliseconds of a step, the median; what feeds it is left out."""
        seconds = [self._step(feed) for _ in range(_WARM_UP + self.steps)]
        return 1000 * median(seconds[_WARM_UP:])

    def _step(self, feed: Callable[[], object]) -> float:
        feed()
        small, began = torch.ones(8, 8), time.perf_counter()
        for _ in range(self.operations):
            small.mul(1.0)
        return time.perf_counter() - began


@contextmanager
def _stream(folder: str, threads: int) -> Iterator[PromptStream]:
    options = StreamOptions(threads=threads)
    recipe = STREAM_RECIPES["unimo_g"](256)
    with PromptStream(folder, recipe=recipe, batch_size=_BATCH, seed=0, world=World(), options=options) as stream:
        yield stream


def _in_threads(folder: str, threads: int, loop: Loop) -> float:
    with _stream(folder, threads) as stream:
        return loop(lambda: next(stream))


def _in_process(folder: str, loop: Loop) -> float:
    """The reader is told when a batch is taken, and has gone on to the next ones since."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, folder), daemon=True)
    process.start()

    def feed() -> None:
        ours.send(True)
        ours.recv()

    try:
        return loop(feed)
    finally:
        ours.send(False)
        process.join()


def _serve(asked: Connection, folder: str) -> None:
    torch.set_num_threads(1)
    with _stream(folder, 2) as stream:
        while asked.recv():
            next(stream)
            asked.send(True)


if __name__ == "__main__":
    typer.run(main)
