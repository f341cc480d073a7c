"""The demo from pictures to report: photographs from URL to shard, then drawn scenes through trained networks.

Both are read back with the webdataset library and shown on one page.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import webdataset
from rich.console import Console

from pipeline.demo.rows import build
from pipeline.demo.server import choose_port, serve
from pipeline.ledger import Layout
from pipeline.report.overview import write_overview

MANIFEST = Path(__file__).parents[2] / "manifests" / "demo.yaml"
SHAPES = MANIFEST.with_name("shapes.yaml")
SOURCE = Path("build/demo/source")
"""Where ``MANIFEST`` expects the demo's rows."""


def show(out: Path | None, run: Callable[[Path, Path], int]) -> int:
    """Run the demo; ``run`` gets a manifest and a folder and returns the exit code.

    Without ``out`` the run's folder carries the server's port: URLs are part of the source, so another port is another
    run. The scenes' folder and the page of both lie beside it.
    """
    port = choose_port(SOURCE)
    build(SOURCE, port)
    photographs = out or SOURCE.parent / f"run-{port}"
    scenes = photographs.with_name(f"{photographs.name}-shapes")
    with serve(SOURCE, port):
        code = run(MANIFEST, photographs)
    code = code or run(SHAPES, scenes)
    if code == 0:
        _finish([photographs, scenes], photographs.with_name(f"{photographs.name}.html"))
    return code


def _finish(runs: Sequence[Path], page: Path) -> None:
    for run in runs:
        _read_back(Layout(run))
    write_overview(page, runs)
    Console(stderr=True).print(f"both reports on one page: {page}", soft_wrap=True)


def _read_back(layout: Layout) -> None:
    """Read every shard as any trainer could, and tell what was found."""
    tars = [str(layout.tar(name)) for name in layout.committed()]
    kinds: Counter[str] = Counter()
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        kinds.update(name for name in sample if not name.startswith("__"))
    crops = sum(count for name, count in kinds.items() if name.startswith("subject") and name.endswith(".jpg"))
    console = Console(stderr=True)
    samples = f"{kinds['jpg']:,} samples, {crops:,} crops, from {len(tars)} shards"
    console.print(f"{layout.root.name} read back with webdataset: {samples}")
