"""What ``status`` tells beside units and rows."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from pipeline.lease import hold
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


def test_where_units_are_is_told_by_the_heartbeats_of_a_run_that_goes_on(
    prepared: Callable[..., Prepared], tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "out")
    execute(prepared(20), layout.root, run_local, LineProgress(io.StringIO()))
    layout.unit("000001").unlink()
    live = Live(in_flight={"source": 2, "before paint+name": 0, "paint+name": 1_200})
    with hold(layout, 8, live):
        while not layout.heartbeat(2).exists():
            time.sleep(0.05)
        assert "units under way: 2 source, 1,200 paint+name\n" in status(layout.root)
    assert "under way" not in status(layout.root)


@pytest.mark.parametrize("beat", [b"7 0\n", b"7 0 {\n", b"7 0 [2]\n", b'7 0 {"source": "two"}\n'])
def test_a_heartbeat_that_does_not_tell_where_units_are_is_one(
    prepared: Callable[..., Prepared], tmp_path: Path, beat: bytes
) -> None:
    layout = Layout(tmp_path / "out")
    execute(prepared(20), layout.root, run_local, LineProgress(io.StringIO()))
    layout.unit("000001").unlink()
    with hold(layout, 600):
        layout.heartbeat(2).write_bytes(beat)
        assert "running (" in status(layout.root) and "under way" not in status(layout.root)
