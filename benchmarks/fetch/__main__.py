"""What a picture costs to download, and from URL to shard: ``python -m benchmarks.fetch network|shard``."""

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from benchmarks.fetch.network import download
from benchmarks.fetch.pictures import read_pictures, write_pictures
from benchmarks.fetch.server import serving
from benchmarks.fetch.shard import CONTENDERS, Bench, summary
from benchmarks.measure import machine

RESULTS = Path(__file__).parents[1] / "results"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "inlay" / "benchmarks" / "pictures"
PICTURES = 400

app = typer.Typer(help=__doc__, no_args_is_help=True)
Python = Annotated[str, typer.Option("--img2dataset", help="Interpreter of an environment with img2dataset 1.47.0")]
Folder = Annotated[Path, typer.Option(help="Where the pictures are kept")]


@app.command()
def network(python: Python, pictures: Folder = CACHE) -> None:
    """Downloads alone: no latency and 50 ms of it, 64 and 256 in flight."""
    write_pictures(pictures, PICTURES)
    found: dict[str, Any] = {}
    for latency_s, in_flight in ((0.0, 64), (0.05, 64), (0.05, 256)):
        with serving(pictures, latency_s) as address:
            case = f"{latency_s * 1e3:g} ms, {in_flight} in flight"
            found[case] = {
                name: download(name, python, address, PICTURES, in_flight) for name in ("inlay", "img2dataset")
            }
            Console().print(case, found[case])
    _write("fetch_network_cpu.json", found, pictures)


@app.command()
def shard(
    python: Python,
    pictures: Folder = CACHE,
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    rows: Annotated[tuple[int, int], typer.Option(help="Of a short and a long run")] = (1000, 5000),
    only: Annotated[list[str] | None, typer.Option(help="Beside inlay, only these; their results are not kept")] = None,
) -> None:
    """From URL to shards of 1000, beside img2dataset and Ray Data; results are written after every round."""
    write_pictures(pictures, PICTURES)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS if not only or name in ("inlay", *only)}
    with serving(pictures) as address, tempfile.TemporaryDirectory() as folder:
        bench = Bench(address=address, pictures=PICTURES, rows=rows, folder=Path(folder), python=python)
        for _ in range(rounds):
            for name, costs in found.items():
                costs.append(bench.cost(name))
                Console().print(name, costs[-1])
            if not only:
                _write("fetch_shard_cpu.json", {"rows": rows, "contenders": summary(found)}, pictures)


def _write(name: str, found: Mapping[str, Any], pictures: Path) -> None:
    bodies = read_pictures(pictures)
    result = {
        "command": f"python -m benchmarks.fetch {sys.argv[1]}",
        "machine": machine("cpu"),
        "aiohttp": version("aiohttp"),
        "img2dataset": "1.47.0",
        "mean_bytes": round(sum(map(len, bodies)) / len(bodies)),
        "found": found,
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / name).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app()
