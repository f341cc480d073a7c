"""How far a run is, read from its folder alone: also while it is running, and from another machine."""

import heapq
from collections.abc import Sequence
from datetime import datetime

from rich.console import Console
from rich.table import Table

from manifests.unit_record import UnitRecord
from pipeline.lease import Hold, current, spilled
from pipeline.ledger import Layout, RunInfo
from pipeline.retrying.retry_plan import latest_plan
from pipeline.totals import StepTotals, Totals, duration

_RECENT_UNITS = 20


def print_status(layout: Layout, console: Console) -> None:
    """Print units, rows, rates, reasons and the time to go.

    Raises:
        ResumeError: If the folder holds no run.
    """
    info = layout.read_run()
    records = list(layout.unit_records())
    totals = Totals.of(records)
    held = current(layout)
    state = _state(layout, info, [r for r in records if r.attempt == 1], held)
    console.print(f"{info.name}: {state}", highlight=False)
    if plan := latest_plan(layout):
        done = len(plan.units) - len(plan.left(layout))
        what = f"attempt {plan.attempt} ({', '.join(plan.classes)})"
        console.print(f"{what}: {done:,} of {len(plan.units):,} units done, {plan.rows:,} rows", highlight=False)
    console.print(f"rows: {totals.rows:,} of {info.rows:,}; {totals.line}", highlight=False)
    if under_way := _under_way(held):
        console.print(f"units under way: {under_way}", highlight=False)
    if on_disk := spilled(layout):
        console.print(f"spilled: Ray wrote {on_disk / 1e9:,.2f} GB from its object stores to disk", highlight=False)
    console.print(_steps(info, totals))
    if totals.rejected:
        console.print(_rejections(info, totals))


def _state(layout: Layout, info: RunInfo, records: Sequence[UnitRecord], held: Hold | None) -> str:
    units = f"{len(records):,} of {info.units:,} units done"
    if len(records) == info.units:
        return f"{units}; finished"
    left = f"{units}, {len(layout.isolated()):,} failed, {info.units - len(records):,} left"
    if held is None or not held.is_alive:
        return f"{left}; not running, run the same command again to resume"
    speed = units_per_second(records)
    eta = f"{speed * 60:,.1f} units/min, ETA {duration((info.units - len(records)) / speed)}" if speed else "starting"
    return f"{left}; running ({held}), {eta}"


def _under_way(held: Hold | None) -> str:
    """Where a running driver's units were at its last heartbeat."""
    places = held.in_flight.items() if held and held.is_alive else ()
    return ", ".join(f"{units:,} {place}" for place, units in places if units)


def units_per_second(records: Sequence[UnitRecord]) -> float:
    """Speed over the units committed last, so that an earlier run's or a cold start's pace does not count."""
    last = heapq.nlargest(_RECENT_UNITS, (record.finished_at for record in records))
    ends = [datetime.fromisoformat(end) for end in reversed(last)]
    seconds = (ends[-1] - ends[0]).total_seconds() if len(ends) > 1 else 0.0
    return (len(ends) - 1) / seconds if seconds > 0 else 0.0


def _steps(info: RunInfo, totals: Totals) -> Table:
    table = Table("step", *(["in", "out", "lost", "rows/s of one worker"]))
    for column in table.columns[1:]:
        column.justify = "right"
    for step in info.steps:
        sums = totals.steps.get(step.node, StepTotals())
        speed = f"{sums.records_in / sums.seconds:,.1f}" if sums.seconds else ""
        counts = (sums.records_in, sums.records_out, sums.records_in - sums.records_out)
        table.add_row(step.node, *(f"{count:,}" for count in counts), speed)
    return table


def _rejections(info: RunInfo, totals: Totals) -> Table:
    meanings = {(reason.node, reason.reason): reason.meaning for reason in info.reasons}
    table = Table("verdict", "node", "reason", "rows", "meaning")
    table.columns[3].justify = "right"
    for (kind, node, reason), count in totals.rejected.most_common():
        table.add_row(kind, node, reason, f"{count:,}", meanings.get((node, reason), ""))
    return table
