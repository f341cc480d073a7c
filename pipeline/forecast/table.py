"""A forecast for people."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pipeline.forecast.arithmetic import Forecast
from pipeline.forecast.report import ForecastReport, Interval

_MOST_CHANGES = 8


def print_forecast(report: ForecastReport, console: Console) -> None:
    """Print tables and sentences."""
    for table in (_stages(report), _pools(report), _machines(report), _changes(report)):
        console.print(table)
    for line in _lines(report):
        console.print(escape(line), highlight=False, soft_wrap=True)
    for note in report.notes:
        console.print(escape(f"note: {note}"), style="yellow", highlight=False, soft_wrap=True)


def _right(title: str, first: str, *others: str) -> Table:
    """A table that a narrow terminal breaks inside its longest words, and not one that loses a column there."""
    table = Table(title=title, title_justify="left")
    table.add_column(first, overflow="fold")
    for name in others:
        table.add_column(name, justify="right", overflow="fold")
    return table


def _stages(report: ForecastReport) -> Table:
    title = (
        f"{report.name}: {report.forecast.rows:,.0f} rows, by {report.rows_measured:,} rows in "
        f"{report.units_measured:,} units of {report.measured_in}; below a figure where 95 of 100 such would fall"
    )
    table = _right(title, "stage", "rows in", "rows out", "hours", "CPU-hours", "GPU-hours")
    for stage, spread in zip(report.forecast.stages, report.spreads, strict=True):
        table.add_row(
            stage.node,
            count(stage.rows_in),
            f"{count(stage.rows_out)}\n{_range(spread.rows_out)}",
            f"{hours(stage.hours)}\n{_range(spread.hours)}",
            hours(stage.cpu_hours),
            hours(stage.gpu_hours),
        )
    table.add_section()
    found = report.forecast
    table.add_row("all", "", count(found.kept), "", hours(found.cpu_hours), hours(found.gpu_hours))
    return table


def _range(interval: Interval | None) -> str:
    if interval is None:
        return "one unit"
    return f"{count(interval.low)}–{count(interval.high)}"


def _pools(report: ForecastReport) -> Table:
    table = _right(
        f"workers, each busy {report.question.busy:.0%} of the time",
        "pool",
        "node type",
        "hours",
        "workers for the deadline",
        "manifest's most",
    )
    for pool in report.forecast.pools:
        workers = "" if pool.workers is None else f"{pool.workers:,}"
        table.add_row(pool.name, pool.node_type, hours(pool.hours), workers, f"{pool.most:,}")
    return table


def _machines(report: ForecastReport) -> Table:
    amounts = {line.what: line.amount for line in report.bill}
    table = _right("machines", "node type", "hours", "machines for the deadline", report.currency or "cost")
    for machine in report.forecast.machines:
        count = "" if machine.machines is None else f"{machine.machines:,}"
        price = f"{amounts.pop(machine.node_type):,.2f}" if report.bill else ""
        table.add_row(machine.node_type, hours(machine.hours), count, price)
    for what, amount in amounts.items():
        table.add_row(what, "", "", f"{amount:,.2f}")
    if report.bill:
        table.add_section()
        table.add_row("all", "", "", f"{report.total:,.2f}")
    return table


def _changes(report: ForecastReport) -> Table:
    table = _right("what a change would do", "change", "kept", "CPU-hours", "GPU-hours", report.currency or "cost")
    for change in report.changes[:_MOST_CHANGES]:
        cost = "" if change.cost is None else f"{change.cost:+.1%}"
        table.add_row(change.what, f"{change.kept:+.1%}", f"{change.cpu_hours:+.1%}", f"{change.gpu_hours:+.1%}", cost)
    return table


def _lines(report: ForecastReport) -> Iterator[str]:
    found = report.forecast
    yield f"network in: {_traffic(found, found.downloaded)}; storage out: {_traffic(found, found.written)}"
    yield (
        f"bottleneck: with the workers that the manifest allows, {report.bottleneck} bounds the run to "
        f"{hours(report.bottleneck_hours)} h at least"
    )
    yield f"dearest: {report.dearest} takes {report.dearest_share:.0%} of the {_measure(report)}"


def _traffic(found: Forecast, amount: float) -> str:
    rate = found.rate(amount)
    return size(amount) if rate is None else f"{size(amount)}, {size(rate)}/s for the deadline"


def _measure(report: ForecastReport) -> str:
    if report.bill:
        return "machines' price"
    return "GPU-hours" if report.forecast.gpu_hours else "CPU-hours"


def hours(value: float) -> str:
    """Hours, with as many digits as matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:,.3g}"


def count(value: float) -> str:
    """A count in a few characters: 950, 12.5k, 1.09G."""
    return _scaled(value, ("", "k", "M", "G", "T"))


def size(value: float) -> str:
    """Bytes likewise: 28.3 TB."""
    return _scaled(value, (" B", " kB", " MB", " GB", " TB", " PB"))


def _scaled(value: float, units: Sequence[str]) -> str:
    place = 0
    while value >= 999.5 and place < len(units) - 1:
        value, place = value / 1000, place + 1
    digits = 0 if value >= 99.95 or value == 0 else 1 if value >= 9.995 else 2
    return f"{value:,.{digits}f}{units[place]}"
