"""``run`` and ``retry``: do units, or try rejected rows again."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated

import typer

from pipeline.commands.console import place_of, readable_errors, written_place
from pipeline.commands.options import (
    Address,
    Limit,
    Local,
    LogJson,
    ManifestPath,
    MetricsFileOption,
    MetricsHost,
    MetricsPortOption,
    Out,
    RunFolder,
    Silence,
    Verbose,
    Workers,
)
from pipeline.commands.work import executor_of, finish, measured, progress_of, run_manifest
from pipeline.lease import SILENCE_S
from pipeline.ledger import Layout
from pipeline.live import Live
from pipeline.retrying.retry import count, retry
from pipeline.retrying.retry_plan import RetryPlan
from pipeline.run import Outcome, execute


def run(
    manifest: ManifestPath,
    out: Out,
    limit: Limit = None,
    local: Local = False,
    address: Address = None,
    workers: Workers = None,
    log_json: LogJson = False,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHost = None,
    metrics_file: MetricsFileOption = None,
    verbose: Verbose = False,
    take_over_after: Silence = SILENCE_S,
) -> None:
    """Run a manifest, or resume it: units that are committed are not done again."""
    with readable_errors():
        live = Live()
        executor = executor_of(local, address, workers, verbose, live)
        progress = measured(progress_of(log_json, live), metrics_port, metrics_host, metrics_file, live)
        start = partial(execute, executor=executor, progress=progress, silence_s=take_over_after, live=live)
        outcome_code = run_manifest(manifest, written_place(out), limit, start)
    raise typer.Exit(outcome_code)


def retry_command(
    folder: RunFolder,
    classes: Annotated[
        str, typer.Option("--class", help="Reasons, by comma: timeout,http_429; or of one node: fetch.timeout")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows, do nothing")] = False,
    local: Local = False,
    address: Address = None,
    workers: Workers = None,
    log_json: LogJson = False,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHost = None,
    metrics_file: MetricsFileOption = None,
    verbose: Verbose = False,
) -> None:
    """Try the rows again that were rejected for some reasons. Committed shards stay as they are.

    Rows that succeed now go into further shards of the same folder, numbered after all others, and every count takes a
    row where it was tried last. Killed, the same command goes on; after it is done, the same command tries once more
    what failed again. The manifest and its limit are those that the folder holds.
    """
    names = [name.strip() for name in classes.split(",") if name.strip()]
    with readable_errors():
        layout = Layout(place_of(folder))
        if dry_run:
            counts = count(layout, names)
            for name, number in counts.most_common():
                print(f"{number:,} {name}")
            print(f"{counts.total():,} rows would be tried again")
            return
        live = Live()
        executor = executor_of(local, address, workers, verbose, live)
        progress = measured(progress_of(log_json, live), metrics_port, metrics_host, metrics_file, live)
        attempt = partial(retry, executor=executor, progress=progress, live=live)
        code = finish(layout.root, lambda: _retry(layout, names, attempt, not log_json))
    raise typer.Exit(code)


def _retry(
    layout: Layout, classes: Sequence[str], attempt: Callable[..., tuple[Outcome, RetryPlan]], say: bool
) -> Outcome:
    outcome, plan = attempt(layout, classes)
    if not plan.units:
        print(f"no row stands rejected for {', '.join(classes)}; nothing to try again")
    elif say:
        units = {unit.number for unit in plan.units}
        kept = sum(record.kept for record in layout.unit_records() if record.unit in units)
        print(f"attempt {plan.attempt}: {plan.rows:,} rows tried again, {kept:,} of them kept")
    return outcome
