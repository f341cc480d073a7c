"""``demo``: from real photographs to shards, and to what tiny models draw."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from manifests.files import AnyPath
from pipeline.commands.console import readable_errors
from pipeline.commands.options import Address, Local, LogJson, Workers
from pipeline.commands.work import executor_of, progress_of, run_manifest
from pipeline.live import Live
from pipeline.run import execute


def demo(
    out: Annotated[Path | None, typer.Option(help="Output folder; without it, one under build/demo")] = None,
    local: Local = False,
    address: Address = None,
    workers: Workers = None,
    log_json: LogJson = False,
    training: Annotated[bool, typer.Option(help="Go on to train tiny models, and have them draw")] = True,
) -> None:
    """Make some hundreds of rows from real photographs, serve them on 127.0.0.1, run manifests/demo.yaml on them.

    Then run networks on drawn scenes, train a tiny UNIMO-G and λ-ECLIPSE on more of these, and show what they draw.
    """
    from pipeline.demo.show import show

    def run(manifest: Path, folder: AnyPath, limit: int | None) -> int:
        live = Live()
        executor, progress = executor_of(local, address, workers, False, live), progress_of(log_json, live)
        return run_manifest(manifest, folder, limit, partial(execute, executor=executor, progress=progress))

    with readable_errors():
        code = show(out, run, training)
    raise typer.Exit(code)
