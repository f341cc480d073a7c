"""``check``, ``plan``, ``status``, ``report``, ``stages`` and ``schema``: what there is, and what would be."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from manifests.dag import read_manifest
from pipeline.commands.console import EXIT_USER, place_of, readable_errors
from pipeline.commands.options import (
    Limit,
    ManifestPath,
    RunFolder,
)
from pipeline.commands.work import make_report
from pipeline.forecast.command import PROBE_ROWS, PlanOptions, forecast_run, parse_hours, parse_rows, parse_speedups
from pipeline.forecast.report import to_json
from pipeline.forecast.table import print_forecast
from pipeline.ledger import Layout
from pipeline.plan import describe
from pipeline.progress import LineProgress
from pipeline.run import prepare
from pipeline.schema import json_schema
from pipeline.status import print_status
from stages import STAGES


def check(manifest: ManifestPath, limit: Limit = None) -> None:
    """Validate a manifest, form and meaning, and print its plan. Starts no worker."""
    with readable_errors():
        prepared = prepare(read_manifest(manifest), limit)
    info, source = prepared.info, prepared.source
    print(f"{info.name}: {info.rows:,} rows in {len(source.parts):,} parts, {info.units:,} units")
    print(f"source: {', '.join(sorted(source.gives))}")
    for line in describe(prepared.plan):
        print(line)


def plan_command(
    manifest: ManifestPath,
    rows: Annotated[
        str | None, typer.Option(help="Source rows: 2_000_000_000 or 2e9; without it, those that the source has")
    ] = None,
    deadline: Annotated[str | None, typer.Option(help="How long it may take: 72h, 3d, 1d12h")] = None,
    prices: Annotated[Path | None, typer.Option(help="YAML file of prices; docs/prices.yaml is one to fill in")] = None,
    measured: Annotated[
        str | None, typer.Option("--from", metavar="DIR", help="Output folder of a run whose costs are taken")
    ] = None,
    probe: Annotated[
        int | None,
        typer.Option(
            min=1, help="Without --from: run N rows from all over the source here and now", show_default=str(PROBE_ROWS)
        ),
    ] = None,
    nodes: Annotated[Path, typer.Option(help="Ray cluster file with the node types there may be")] = Path(
        "ray_cluster.yaml"
    ),
    speedup: Annotated[
        list[str] | None, typer.Option(metavar="NODE=X", help="Take a node to be X times as fast as measured")
    ] = None,
    busy: Annotated[
        float, typer.Option(min=0.01, max=1, help="Share of the time that workers work: the rest is start-up and waits")
    ] = 0.8,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Forecast a run: rows by stage, CPU- and GPU-hours, machines for a deadline, bytes and money; starts no cluster.

    Costs by record and the share that survives each stage come from a run (--from DIR), or from a probe: rows from all
    over the source are run in this process, into a folder that is removed. Each figure comes with the range that 95 of
    100 such measurements would fall in. Then: which pool is the bottleneck, which stage is the dearest, and what a
    change of one stage would do to rows, hours and money.

    Example: python -m pipeline plan mine.yaml --rows 2e9 --deadline 72h --from out --speedup ground=20
    """
    if measured is not None and probe is not None:
        raise typer.BadParameter("--from DIR has the costs already: --probe goes without it")
    with readable_errors():
        options = PlanOptions(
            rows=None if rows is None else parse_rows(rows),
            deadline_h=None if deadline is None else parse_hours(deadline),
            busy=busy,
            prices=prices,
            measured=None if measured is None else Layout(place_of(measured)),
            probe=PROBE_ROWS if probe is None else probe,
            nodes=nodes,
            speedups=parse_speedups(speedup or ()),
        )
        report = forecast_run(read_manifest(manifest), options, lambda: LineProgress(sys.stderr))
    if as_json:
        print(json.dumps(to_json(report), indent=1))
    else:
        print_forecast(report, Console())


def status(folder: RunFolder) -> None:
    """How far a run is: units done and left, rates, reasons, time to go."""
    with readable_errors():
        print_status(Layout(place_of(folder)), Console())


def report(
    folder: RunFolder,
    samples: Annotated[int, typer.Option(min=0, help="Kept samples to show, evenly spread over the run")] = 1000,
) -> None:
    """(Re)build the HTML report of a run, finished or not; print its statistics beside its paper's."""
    with readable_errors():
        place = place_of(folder)
        Layout(place).read_run()
        print(make_report(place, Console(), samples))


def stages(
    name: Annotated[str | None, typer.Argument(help="A stage, to see its parameters and reasons")] = None,
) -> None:
    """List the stages, or one stage's parameters and reasons."""
    console = Console()
    for title in [name] if name else sorted(STAGES):
        stage = STAGES.get(title)
        if stage is None:
            console.print(f"no stage {title!r}; there are {', '.join(sorted(STAGES))}", style="bold red")
            raise typer.Exit(EXIT_USER)
        console.print(f"[bold]{title}[/bold]  {(stage.__doc__ or '').splitlines()[0]}")
        if name:
            _print_stage(console, stage)


def _print_stage(console: Console, stage: Any) -> None:
    params = Table("parameter", "default", "what it does", title="parameters", title_justify="left")
    for field, about in stage.Params.model_fields.items():
        params.add_row(field, repr(about.default), about.description or "")
    reasons = Table("reason", "meaning", title="reasons", title_justify="left")
    for reason, meaning in stage.reasons.items():
        reasons.add_row(reason, meaning)
    console.print(params, reasons)


def schema() -> None:
    """Print the JSON Schema of manifests, for editors (kept in manifests/schema.json)."""
    sys.stdout.write(json_schema())
