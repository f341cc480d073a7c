"""What ``status`` tells beside units and rows."""

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from pipeline.ledger import Layout
from pipeline.live import Live
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import Prepared, execute
from pipeline.status import print_status


def status(out: Path) -> str:
    said = io.StringIO()
    print_status(Layout(out), Console(file=said, width=160))
    return said.getvalue()


def test_what_all_drivers_spilled_is_told_if_it_is_anything(prepared: Callable[..., Prepared], tmp_path: Path) -> None:
    def run(live: Live | None) -> None:
        execute(prepared(20), tmp_path / "out", run_local, LineProgress(io.StringIO()), live=live)

    run(None)
    assert "spilled" not in status(tmp_path / "out")
    for _ in range(2):
        run(Live(spilled=600_000_000))
    assert "spilled: Ray wrote 1.20 GB from its object stores to disk" in status(tmp_path / "out")
