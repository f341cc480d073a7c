"""How far a run is, read from its folder alone: also while it is running, and from another machine."""

import fcntl

from rich.console import Console
from rich.table import Table

from pipeline.ledger import Layout, RunInfo
from pipeline.totals import StepTotals, Totals, duration


def print_status(layout: Layout, console: Console) -> None:
    """Print units, rows, rates, reasons and the time to go.

    Raises:
        ResumeError: If the folder holds no run.
    """
    info = layout.read_run()
    totals = Totals.of(layout.unit_records())
    console.print(f"{info.name}: {_state(layout, info, totals)}", highlight=False)
    console.print(f"rows: {totals.rows:,} of {info.rows:,}; {totals.line}", highlight=False)
    console.print(_steps(info, totals))
    if totals.rejected:
        console.print(_rejections(info, totals))


def _state(layout: Layout, info: RunInfo, totals: Totals) -> str:
    units = f"{totals.units:,} of {info.units:,} units done"
    if totals.units == info.units:
        return f"{units}; finished"
    left = f"{units}, {len(layout.isolated()):,} failed, {info.units - totals.units:,} left"
    if not is_running(layout):
        return f"{left}; not running here, run the same command again to resume"
    speed = totals.units_per_second
    eta = f"{speed * 60:,.1f} units/min, ETA {duration((info.units - totals.units) / speed)}" if speed else "starting"
    return f"{left}; running, {eta}"


def is_running(layout: Layout) -> bool:
    """Whether a driver on this machine holds the folder's lock."""
    try:
        with layout.lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _steps(info: RunInfo, totals: Totals) -> Table:
    table = Table("step", "in", "out", "lost", "rows/s of one worker", "p95 of a batch")
    for column in table.columns[1:]:
        column.justify = "right"
    for step in info.steps:
        sums = totals.steps.get(step.node, StepTotals())
        counts = (sums.records_in, sums.records_out, sums.records_in - sums.records_out)
        speed = f"{sums.records_in / sums.seconds:,.1f}" if sums.seconds else ""
        slow = sums.batch_seconds(0.95)
        table.add_row(step.node, *(f"{count:,}" for count in counts), speed, "" if slow is None else f"{slow:.2g} s")
    return table


def _rejections(info: RunInfo, totals: Totals) -> Table:
    meanings = {(reason.node, reason.reason): reason.meaning for reason in info.reasons}
    table = Table("verdict", "node", "reason", "rows", "meaning")
    table.columns[3].justify = "right"
    for (kind, node, reason), count in totals.rejected.most_common():
        table.add_row(kind, node, reason, f"{count:,}", meanings.get((node, reason), ""))
    return table
