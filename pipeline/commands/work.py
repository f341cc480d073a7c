"""Work on units and its end: who does it, who is told, what is left, the report."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pyarrow as pa
import typer
from rich.console import Console
from rich.table import Table

from manifests.dag import read_manifest
from manifests.files import AnyPath
from pipeline.actor import FatalError
from pipeline.commands.console import EXIT_INCOMPLETE, EXIT_INTERRUPTED
from pipeline.ledger import Layout
from pipeline.live import Live
from pipeline.metrics_export import MetricsFile, MetricsPort
from pipeline.progress import BarProgress, JsonProgress, LineProgress, Progress, Together
from pipeline.report.collect import RunSummary, collect
from pipeline.report.page import write_page
from pipeline.report.published import Comparison
from pipeline.run import Executor, Outcome, Prepared, prepare


def run_manifest(manifest: Path, out: AnyPath, limit: int | None, start: Callable[[Prepared, AnyPath], Outcome]) -> int:
    """Run a manifest and write its report; the exit code."""
    return finish(out, lambda: start(prepare(read_manifest(manifest), limit), out))


def finish(out: AnyPath, work: Callable[[], Outcome]) -> int:
    """Do a run's work, write its report, say what is left; the exit code."""
    console = Console(stderr=True)
    try:
        with _interrupted_by_sigterm():
            outcome = work()
    except KeyboardInterrupt:
        done = len(Layout(out).committed())
        console.print(f"interrupted; units committed so far: {done}. Run the same command again to resume.")
        return EXIT_INTERRUPTED
    console.print(f"report: {make_report(out, console)}", soft_wrap=True)
    if outcome.left:
        console.print(
            f"{outcome.left} of {outcome.units} units were not committed: their workers died. Run the same command "
            "again to retry them.",
            style="bold yellow",
        )
        return EXIT_INCOMPLETE
    return 0


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, as SIGINT does; what was done on it before holds again afterwards."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def make_report(out: AnyPath, console: Console, samples: int = 1000) -> AnyPath:
    """Write a run's report, and print its statistics beside its paper's; where it is."""
    layout = Layout(out)
    try:
        summary = collect(layout)
        if summary.comparison:
            console.print(_beside_the_paper(summary.comparison))
        if summary.rows and not summary.kept:
            console.print(_nothing_kept(summary), style="bold yellow", soft_wrap=True)
        return write_page(layout, summary, samples)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise FatalError(
            f"the report cannot be written: {error}; the units are committed, `python -m pipeline verify {out}` says "
            "whether they are whole"
        ) from error


def _nothing_kept(summary: RunSummary) -> str:
    """That no shard holds anything, and at which node most records were lost."""
    node, loss = max(((step.node, loss) for step in summary.steps for loss in step.losses), key=lambda at: at[1].count)
    return (
        f"nothing was kept: {loss.count:,} of {summary.rows:,} rows were {loss.kind} at {node!r} as {loss.reason}: "
        f"{loss.meaning}"
    )


def _beside_the_paper(comparison: Comparison) -> Table:
    table = Table(comparison.title, "paper", "this run", caption=comparison.note)
    for line in comparison.lines:
        table.add_row(line.label, line.paper, line.ours)
    return table


def executor_of(local: bool, address: str | None, workers: int | None, verbose: bool, live: Live) -> Executor:
    """Who does units, and says in ``live`` what is under way: this process, or Ray."""
    if local and (address or workers):
        raise typer.BadParameter("--local runs in this process: it goes with neither --address nor --workers")
    if local:
        from pipeline.local import run_local

        return partial(run_local, live=live)
    from pipeline.cluster import RayOptions, run_on_ray

    options = RayOptions(address=address, workers=workers, quiet=not verbose)
    return partial(run_on_ray, options=options, live=live)


def progress_of(log_json: bool, live: Live) -> Progress:
    """How a person, or a log, is told."""
    if log_json:
        return JsonProgress(live=live)
    console = Console(stderr=True)
    return BarProgress(console) if console.is_terminal else LineProgress()


def measured(progress: Progress, port: int | None, host: str | None, file: Path | None, live: Live) -> Progress:
    """Metrics, where they are asked for, beside what a person sees."""
    if host is not None and port is None:
        raise typer.BadParameter("--metrics-host goes with --metrics-port")
    say = partial(print, file=sys.stderr)
    exports: list[Progress] = [] if port is None else [MetricsPort(host or "127.0.0.1", port, say, live)]
    if file is not None:
        exports.append(MetricsFile(file, live=live))
    return Together(*exports, progress) if exports else progress
