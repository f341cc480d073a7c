"""From URL to shard: ours, img2dataset's and Ray Data's commands over the same rows, by CPU time."""

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.fetch.costs import Spent, spend
from benchmarks.fetch.pictures import write_table

SIDE = 256
SHARD_ROWS = 1000
IN_FLIGHT = 64


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that makes shards of a table.

    Attributes:
        command: Its words, of the table, the folder to write and the interpreter of img2dataset's environment.
        environment: Variables it needs.
    """

    command: Callable[[Path, Path, str], Sequence[str]]
    environment: Mapping[str, str]


def _inlay(margin: float) -> Callable[[Path, Path, str], Sequence[str]]:
    def command(table: Path, out: Path, python: str) -> Sequence[str]:
        manifest = table.with_suffix(".yaml")
        manifest.write_text(yaml.safe_dump(_manifest(table, margin), sort_keys=False))
        return [sys.executable, "-m", "pipeline", "run", str(manifest), "--out", str(out), "--local"]

    return command


def _manifest(table: Path, margin: float) -> dict[str, Any]:
    fetch = {"in_flight": IN_FLIGHT, "per_host": IN_FLIGHT, "allow_hosts": ["127.0.0.1"]}
    nodes: list[dict[str, Any]] = [
        {"id": "fetch", "stage": "fetch", "params": fetch},
        {"id": "decode", "stage": "decode", "needs": ["fetch"], "params": {"max_side": SIDE, "jpeg_margin": margin}},
        {"id": "caption", "stage": "caption", "needs": ["decode"]},
    ]
    for node in nodes:
        node["batch_size"] = SHARD_ROWS
    source = {"kind": "parquet", "paths": [str(table)], "unit_rows": SHARD_ROWS}
    return {"name": "url_to_shard", "source": source, "nodes": nodes, "sink": {"kind": "webdataset"}}


def _img2dataset(mode: str) -> Callable[[Path, Path, str], Sequence[str]]:
    def command(table: Path, out: Path, python: str) -> Sequence[str]:
        options = {
            "url_list": table,
            "input_format": "parquet",
            "url_col": "URL",
            "caption_col": "TEXT",
            "output_format": "webdataset",
            "output_folder": out,
            "image_size": SIDE,
            "resize_mode": mode,
            "processes_count": 2,
            "thread_count": IN_FLIGHT,
            "number_sample_per_shard": SHARD_ROWS,
            "enable_wandb": False,
        }
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [str(Path(python).with_name("img2dataset")), *words]

    return command


def _ray_data(table: Path, out: Path, python: str) -> Sequence[str]:
    return [sys.executable, "-m", "benchmarks.fetch.ray_data", str(table), str(out)]


_QUIET = {"NO_ALBUMENTATIONS_UPDATE": "1", "WANDB_MODE": "disabled"}

CONTENDERS: Mapping[str, Contender] = {
    "inlay": Contender(_inlay(2), {}),
    "inlay, jpeg_margin 1": Contender(_inlay(1), {}),
    "img2dataset, longer side 256": Contender(_img2dataset("keep_ratio_largest"), _QUIET),
    "img2dataset, centre crop of 256": Contender(_img2dataset("center_crop"), _QUIET),
    "Ray Data, longer side 256": Contender(_ray_data, {"RAY_DATA_DISABLE_PROGRESS_BARS": "1"}),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Where and of what to make shards.

    Attributes:
        address: Of the server.
        pictures: How many different ones it has.
        rows: Of a short run, and of a long one; what both cost is start-up.
        folder: For tables and shards.
        python: The interpreter of img2dataset's environment.
    """

    address: str
    pictures: int
    rows: tuple[int, int]
    folder: Path
    python: str

    def cost(self, name: str) -> dict[str, float]:
        """CPU milliseconds a picture in steady state, and with start-up in the long run."""
        short, long = (self._spend(CONTENDERS[name], rows) for rows in self.rows)
        more = self.rows[1] - self.rows[0]
        return {
            "steady_ms": 1e3 * (long.cpu_s - short.cpu_s) / more,
            "with_start_ms": 1e3 * long.cpu_s / self.rows[1],
            "wall_s": long.wall_s,
            "peak_mib": long.peak_bytes / 2**20,
        }

    def _spend(self, contender: Contender, rows: int) -> Spent:
        table, out = self.folder / f"{rows}.parquet", self.folder / "out"
        write_table(table, self.address, rows, self.pictures)
        shutil.rmtree(out, ignore_errors=True)
        return spend(contender.command(table, out, self.python), {"OMP_NUM_THREADS": "1", **contender.environment})


def summary(rounds: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    """Medians over rounds, and each contender's steady cost over ours, round by round."""
    ours = [found["steady_ms"] for found in rounds["inlay"]]
    return {
        name: {
            **{key: median(found[key] for found in all_found) for key in all_found[0]},
            "times_ours": median(found["steady_ms"] / our for found, our in zip(all_found, ours, strict=False)),
            "rounds_steady_ms": [found["steady_ms"] for found in all_found],
        }
        for name, all_found in rounds.items()
    }
