"""What a sample costs from shard to batch: ``python -m benchmarks.stream``."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.measure import machine
from benchmarks.stream.contenders import CONTENDERS
from benchmarks.stream.data import Size, make_data
from benchmarks.stream.energon_check import check_energon
from benchmarks.stream.rounds import Folders, measure
from benchmarks.stream.work import DECODERS, Epoch

RESULTS = Path(__file__).parents[1] / "results" / "stream_cpu.json"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "inlay" / "benchmarks"
Found = Mapping[str, Mapping[str, Any]]


def summary(epochs: Sequence[Epoch], limit: Sequence[Epoch] | None) -> dict[str, Any]:
    """What a contender's epochs come to; ``ratio`` is the limit's median cost over its own."""
    costs = _costs(epochs)
    return {
        "cpu_us_per_sample": {"min": min(costs), "median": median(costs), "max": max(costs)},
        "ratio": median(_costs(limit)) / median(costs) if limit else None,
        "samples_per_s": median(epoch.samples / epoch.wall_s for epoch in epochs),
        "peak_mib": max(max(epoch.memory) for epoch in epochs) / 2**20,
        "last_epoch_mib": [round(sample / 2**20) for sample in epochs[-1].memory],
    }


def _costs(epochs: Sequence[Epoch]) -> list[float]:
    return [1e6 * epoch.cpu_s / epoch.samples for epoch in epochs]


def show(decoder: str, found: Found) -> None:
    """Print one decoder's table."""
    title = f"CPU µs a sample with {decoder}, median; limit ÷ loader; load average {os.getloadavg()[0]:.1f}"
    table = Table("loader", "CPU µs", "min - max", "ratio", "samples/s", "MiB", title=title)
    for name, figures in found.items():
        cost, ratio = figures["cpu_us_per_sample"], figures["ratio"]
        table.add_row(
            CONTENDERS[name].name,
            f"{cost['median']:.0f}",
            f"{cost['min']:.0f} - {cost['max']:.0f}",
            "-" if ratio is None else f"{ratio:.2f}",
            f"{figures['samples_per_s']:.0f}",
            f"{figures['peak_mib']:.0f}",
        )
    Console().print(table)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Epochs of each, after one that warms up")] = 5,
    shards: Annotated[int, typer.Option(min=1, help="Tars")] = 8,
    samples: Annotated[int, typer.Option(min=1, help="Samples in each")] = 1000,
    only: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(CONTENDERS)}")] = None,
    decoder: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(DECODERS)}")] = None,
    photographs: Annotated[Path | None, typer.Option(help="Folder whose pictures are cut up; else noise")] = None,
    data: Annotated[Path, typer.Option(help="Folder for the data set and what is converted of it")] = CACHE / "data",
    environments: Annotated[Path, typer.Option(help="Folder for environments")] = CACHE / "environments",
    check: Annotated[bool, typer.Option("--check-energon", help="Only compare what Energon reads with ours")] = False,
    out: Annotated[Path, typer.Option(help="JSON file")] = RESULTS,
) -> None:
    """Measure loaders side by side; memory counts shared pages once for each process."""
    size = Size(shards=shards, samples=samples)
    home = data / f"{shards}x{samples}{'' if photographs else '-noise'}"
    folders = Folders(
        layout=make_data(home / "run", size, photographs),
        converted=home,
        environments=environments,
        log=home / "log.txt",
    )
    if check:
        print(f"Energon reads all {check_energon(folders)} members of {size.total} samples as they are")
        return
    chosen = {name: CONTENDERS[name] for name in ("limit", *(name for name in only or CONTENDERS if name != "limit"))}
    result: dict[str, Any] = {"rounds": rounds, "shards": shards, "samples": samples, "machine": machine("cpu")}
    tables: dict[str, Found] = {}
    for one in decoder or DECODERS:
        epochs, missing = measure(chosen, one, folders, rounds)
        for reason in missing:
            print(f"left out: {reason}")
        tables[one] = {name: summary(mine, epochs.get("limit")) for name, mine in epochs.items()}
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result | {"load_average_after": os.getloadavg(), "decoders": tables}, indent=1) + "\n")
    for one, found in tables.items():
        show(one, found)


if __name__ == "__main__":
    typer.run(main)
