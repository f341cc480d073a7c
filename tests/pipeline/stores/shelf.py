"""What lies in the store, and the commands that read and write it."""

import hashlib
import io
import os
import tarfile
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from manifests.files import AnyPath, write_atomically
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import Executor, Outcome, Prepared, execute
from stages.pixels import write_jpeg

MANIFEST = """
name: stored
seed: 3
source: {{kind: webdataset, paths: ["{folder}/tars/*.tar"], unit_rows: 4}}
nodes:
- {{id: decode, stage: decode, params: {{min_side: 32}}}}
- {{id: caption, stage: caption, needs: [decode]}}
"""
"""Six units of four rows; the third of each tar has a row that is rejected."""

Prepare = Callable[..., Prepared]
"""Makes a run ready; see the fixture ``prepared``."""


def run(prepared: Prepared, out: AnyPath, executor: Executor = run_local) -> Outcome:
    """Run it, without a word."""
    with open(os.devnull, "w") as nowhere:
        return execute(prepared, out, executor, LineProgress(nowhere))


def sums(out: AnyPath) -> dict[str, str]:
    """SHA-256 of every file whose bytes must not depend on how a run went."""
    folders = (out / "shards", out / "rejects")
    files = {f"{folder.name}/{path.name}": path for folder in folders for path in folder.iterdir()}
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(files.items())}


def fill(folder: AnyPath) -> None:
    """A Parquet file of several row groups, and two tars of 12 pictures with captions, one of them broken."""
    sink = io.BytesIO()
    table = pa.table({"URL": [f"http://a/{n}.jpg" for n in range(3000)], "TEXT": [f"picture {n}" for n in range(3000)]})
    pq.write_table(table, sink, row_group_size=500)
    write_atomically(folder / "rows" / "part-0.parquet", sink.getvalue())
    rng = np.random.default_rng(0)
    for number in range(2):
        sink = io.BytesIO()
        with tarfile.open(fileobj=sink, mode="w") as tar:
            for sample in range(12):
                picture = write_jpeg(rng.integers(0, 256, (48, 64, 3), np.uint8)).data if sample != 9 else b"<html>"
                for name, data in (("jpg", picture), ("txt", f"noise {number} {sample}".encode())):
                    info = tarfile.TarInfo(f"{number}-{sample:03}.{name}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        write_atomically(folder / "tars" / f"{number}.tar", sink.getvalue())
