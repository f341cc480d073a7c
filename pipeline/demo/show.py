"""The demo from pictures to report: build, serve, run, and read the shards back with the webdataset library."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import webdataset
from rich.console import Console

from pipeline.demo.rows import build
from pipeline.demo.server import choose_port, serve
from pipeline.ledger import Layout

MANIFEST = Path(__file__).parents[2] / "manifests" / "demo.yaml"
SOURCE = Path("build/demo/source")
"""Where ``MANIFEST`` expects the demo's rows."""


def show(out: Path | None, run: Callable[[Path, Path], int]) -> int:
    """Run the demo; ``run`` gets a manifest and a folder and returns the exit code.

    Without ``out`` the run's folder carries the server's port: URLs are part of the source, so another port is another
    run.
    """
    port = choose_port(SOURCE)
    build(SOURCE, port)
    out = out or SOURCE.parent / f"run-{port}"
    with serve(SOURCE, port):
        code = run(MANIFEST, out)
    if code == 0:
        _read_back(Layout(out))
    return code


def _read_back(layout: Layout) -> None:
    """Read every shard as any trainer could, and tell what was found."""
    tars = [str(layout.tar(name)) for name in layout.committed()]
    kinds: Counter[str] = Counter()
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        kinds.update(name for name in sample if not name.startswith("__"))
    crops = sum(count for name, count in kinds.items() if name.startswith("subject") and name.endswith(".jpg"))
    console = Console(stderr=True)
    console.print(f"read back with webdataset: {kinds['jpg']:,} samples, {crops:,} crops, from {len(tars)} shards")
