"""The demo from pictures to report: photographs from URL to shard, then drawn scenes through trained networks.

All are read back with the webdataset library and shown on one page; then models learn from scenes of subjects with
their pictures, and what they draw joins the page.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import webdataset
from rich.console import Console

from pipeline.demo.learn import learn, missing_packages
from pipeline.demo.rows import build
from pipeline.demo.server import choose_port, serve
from pipeline.ledger import Layout
from pipeline.report.drawn import DrawnGrid
from pipeline.report.overview import write_overview

MANIFEST = Path(__file__).parents[2] / "manifests" / "demo.yaml"
SHAPES = MANIFEST.with_name("shapes.yaml")
REFERENCES = MANIFEST.with_name("shapes_references.yaml")
SCENES = 1000
"""Of ``REFERENCES``, that the models learn from."""
SOURCE = Path("build/demo/source")
"""Where ``MANIFEST`` expects the demo's rows."""

Run: TypeAlias = Callable[[Path, Path, int | None], int]
"""Runs a manifest into a folder, all of its rows or the first so many; gives the exit code."""


def show(out: Path | None, run: Run, with_training: bool = True) -> int:
    """Run the demo; gives its exit code.

    Without ``out`` the run's folder carries the server's port: URLs are part of the source, so another port is another
    run. The other folders and the page of all lie beside it.

    Raises:
        FatalError: If a model can't be trained or can't draw; the page is there, without it.
    """
    port = choose_port(SOURCE)
    build(SOURCE, port)
    photographs = out or SOURCE.parent / f"run-{port}"
    with serve(SOURCE, port):
        code = run(MANIFEST, photographs, None)
    shapes, page = (
        photographs.with_name(f"{photographs.name}-shapes"),
        photographs.with_name(f"{photographs.name}.html"),
    )
    code = code or run(SHAPES, shapes, None)
    if code == 0:
        _read_back(photographs, shapes)
        _write_page(page, [photographs, shapes])
    return code or (_learn([photographs, shapes], page, run) if with_training else 0)


def _learn(runs: Sequence[Path], page: Path, run: Run) -> int:
    missing, console = missing_packages(), Console(stderr=True)
    if missing:
        console.print(
            f"no model is trained: {', '.join(missing)} not installed; `pip install -e '.[training]'` brings them",
            style="bold yellow",
            markup=False,
        )
        return 0
    references = page.with_name(f"{page.stem}-references")
    code = run(REFERENCES, references, SCENES)
    if code == 0:
        _read_back(references)
        _write_page(page, [*runs, references], learn(references, page.with_suffix("")))
    return code


def _write_page(page: Path, runs: Sequence[Path], drawn: DrawnGrid | None = None) -> None:
    write_overview(page, runs, drawn)
    Console(stderr=True).print(f"all reports on one page: {page}", soft_wrap=True)


def _read_back(*runs: Path) -> None:
    """Read every shard as any trainer could, and tell what was found."""
    for run in runs:
        _read_shards(Layout(run))


def _read_shards(layout: Layout) -> None:
    tars = [str(layout.tar(name)) for name in layout.committed()]
    kinds: Counter[str] = Counter()
    for sample in webdataset.WebDataset(tars, shardshuffle=False):
        kinds.update(name for name in sample if not name.startswith("__"))
    crops = sum(count for name, count in kinds.items() if name.startswith("subject") and name.endswith(".jpg"))
    console = Console(stderr=True)
    samples = f"{kinds['jpg']:,} samples, {crops:,} crops, from {len(tars)} shards"
    console.print(f"{layout.root.name} read back with webdataset: {samples}")
