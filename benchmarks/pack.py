"""What packing costs, beside `cat` and `sha256sum`: ``python -m benchmarks.pack --folder /tmp/pack``.

Packing reads every byte once, takes its SHA-256 as a part of the unit's tar and as a part of the large shard, and
writes it once, with fsync. The peers: ``cat`` of all tars into one file and ``sync``; then also ``sha256sum`` of what
was read and of what was written. CPU time is that of the process and its children, user and system.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stream.data import Size, make_data
from pipeline.ledger import Layout
from pipeline.packing.pack import Packer, PackOptions
from pipeline.packing.split import Split


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of wall clock and of CPU."""

    wall_s: float
    cpu_s: float

    def line(self, name: str, size: int) -> str:
        """In MB/s and CPU-seconds a GB."""
        return f"{name:<44} {size / self.wall_s / 1e6:8.0f} MB/s   {self.cpu_s / size * 1e9:6.2f} CPU-s/GB"


def measured(work: Callable[[], object]) -> Cost:
    """What a call costs, its child processes included."""
    before, began = os.times(), time.perf_counter()
    work()
    after = os.times()
    return Cost(time.perf_counter() - began, sum(after[:4]) - sum(before[:4]))


def shell(command: str, folder: Path) -> Callable[[], object]:
    """A call of a shell command in a folder."""
    words = ["bash", "-c", command]
    return lambda: subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def packing(layout: Layout, out: Path, split: str | None) -> Callable[[], object]:
    """A call that packs a run."""
    options = PackOptions(shard_bytes=10**9, split=Split.parse(split) if split else None)
    return lambda: Packer(layout, out, options).pack(lambda done, total: None)


def main() -> None:
    """Make the run if it is not there, and measure each way in turn, several times over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--shards", type=int, default=24)
    parser.add_argument("--samples", type=int, default=500, help="in each shard")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    run = options.folder / "run"
    layout = make_data(run, Size(shards=options.shards, samples=options.samples), None)
    size = sum(record.tar_size for record in layout.unit_records())
    out = options.folder / "out"
    ways = {
        "cat, sync": shell("cat shards/*.tar > ../out && sync ../out", run),
        "cat, sync, sha256sum in and out": shell(
            "cat shards/*.tar > ../out && sync ../out && sha256sum shards/*.tar ../out", run
        ),
        "pack": packing(layout, out, None),
        "pack --split train=80,validation=20": packing(layout, out, "train=80,validation=20"),
    }
    sys.stdout.write(f"{size / 1e9:.2f} GB in {options.shards} shards of {options.samples} samples\n")
    for _ in range(options.rounds):
        for name, way in ways.items():
            sys.stdout.write(measured(way).line(name, size) + "\n")
            shutil.rmtree(out) if out.is_dir() else out.unlink()


if __name__ == "__main__":
    main()
