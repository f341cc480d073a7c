"""The command line of the data engine: ``python -m pipeline --help``."""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from manifests.dag import ManifestError, read_manifest
from manifests.files import AnyPath, open_path
from manifests.shard import SchemaVersionError
from pipeline.actor import FatalError
from pipeline.dedup import By, DedupError, dedup_run, dedup_source
from pipeline.forecast import ForecastError
from pipeline.forecast_command import PlanOptions, forecast_run, parse_hours, parse_rows, parse_speedups
from pipeline.forecast_report import to_json
from pipeline.forecast_table import print_forecast
from pipeline.lease import SILENCE_S
from pipeline.ledger import Layout, ResumeError
from pipeline.lists import Kind, ListError, ListRequest, write_list
from pipeline.members import MemberError
from pipeline.metrics_export import MetricsFile, MetricsPort
from pipeline.near import MOST_BITS
from pipeline.neighbours import Limits
from pipeline.pack import Packer, PackOptions
from pipeline.pairs import PairOptions, Within, mine
from pipeline.plan import describe
from pipeline.progress import BarProgress, JsonProgress, LineProgress, Progress, Together
from pipeline.report.collect import collect
from pipeline.report.page import write_page
from pipeline.report.published import Comparison
from pipeline.retry import count, retry
from pipeline.retry_plan import RetryError
from pipeline.run import Executor, Outcome, Prepared, execute, prepare
from pipeline.schema import json_schema
from pipeline.sources.base import SourceError
from pipeline.sources.prompts import read_list
from pipeline.split import Split, SplitError
from pipeline.status import print_status
from pipeline.telling import rows, telling
from pipeline.unpacked import PackError
from pipeline.vectors import PairError
from pipeline.verify import verify
from stages import STAGES
from stages.base import ModelRef
from stages.features import FeatureError

_USER_ERRORS = (ManifestError, SourceError, ResumeError, SchemaVersionError, FatalError, ListError, OSError)
_PAIR_ERRORS = (PairError, MemberError, FeatureError)
_LATER_ERRORS = (RetryError, PackError, SplitError, DedupError, ForecastError)
_EXIT_INCOMPLETE, _EXIT_USER, _EXIT_INTERRUPTED = 1, 2, 130

app = typer.Typer(
    name="python -m pipeline",
    help="Inlay's data engine: web metadata in, interleaved-prompt WebDataset shards out.",
    epilog="Exit codes: 0 done; 1 units left undone, or mistakes found; 2 an error to correct; 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

ManifestPath = Annotated[Path, typer.Argument(metavar="MANIFEST", help="YAML file, e.g. manifests/demo.yaml")]
RunFolder = Annotated[str, typer.Argument(metavar="DIR", help="Output folder of a run, or its URL: s3://bucket/run")]
Out = Annotated[
    str, typer.Option(metavar="DIR", help="Output folder, or URL (s3://, gs://): new, empty, or this very run's")
]
Silence = Annotated[
    float,
    typer.Option(
        "--take-over-after",
        min=1,
        metavar="SECONDS",
        help="Let another run take over after no sign of life for so long",
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Use only the first N source rows")]
Local = Annotated[bool, typer.Option("--local", help="Run in this process, without Ray")]
Address = Annotated[str | None, typer.Option(help="Ray cluster, e.g. auto; else $RAY_ADDRESS, else a Ray of our own")]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers of each CPU group, instead of the manifest's")]
LogJson = Annotated[bool, typer.Option("--log-json", help="Progress as JSON lines")]
MetricsPortOption = Annotated[
    int | None, typer.Option("--metrics-port", min=0, max=65535, help="Serve Prometheus metrics; 0: on a free port")
]
MetricsHost = Annotated[str, typer.Option("--metrics-host", help="Address to serve them at; 0.0.0.0: to everybody")]
MetricsFileOption = Annotated[
    Path | None, typer.Option("--metrics-file", help="Keep them in a file, for node_exporter: NAME.prom")
]
Verbose = Annotated[bool, typer.Option("--verbose", help="Show Ray's own log lines too")]


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Turn what a user can correct into one message and exit code 2."""
    try:
        yield
    except (*_USER_ERRORS, *_PAIR_ERRORS, *_LATER_ERRORS) as error:
        Console(stderr=True).print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(_EXIT_USER) from None


@app.command()
def run(
    manifest: ManifestPath,
    out: Out,
    limit: Limit = None,
    local: Local = False,
    address: Address = None,
    workers: Workers = None,
    log_json: LogJson = False,
    metrics_port: MetricsPortOption = None,
    metrics_host: MetricsHost = "127.0.0.1",
    metrics_file: MetricsFileOption = None,
    verbose: Verbose = False,
    take_over_after: Silence = SILENCE_S,
) -> None:
    """Run a manifest, or resume it: units that are committed are not done again."""
    with _readable_errors():
        executor = _executor(local, address, workers, verbose)
        progress = _measured(_progress(log_json), metrics_port, metrics_host, metrics_file)
        start = partial(execute, executor=executor, progress=progress, silence_s=take_over_after)
        outcome_code = _run(manifest, _place(out), limit, start)
    raise typer.Exit(outcome_code)


def _place(where: str) -> AnyPath:
    try:
        return open_path(where)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _run(manifest: Path, out: AnyPath, limit: int | None, start: Callable[[Prepared, AnyPath], Outcome]) -> int:
    return _finish(out, lambda: start(prepare(read_manifest(manifest), limit), out))


def _finish(out: AnyPath, work: Callable[[], Outcome]) -> int:
    """Do a run's work, write its report, say what is left; the exit code."""
    console = Console(stderr=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        outcome = work()
    except KeyboardInterrupt:
        done = len(Layout(out).committed())
        console.print(f"interrupted; {done} units are committed. Run the same command again to resume.")
        return _EXIT_INTERRUPTED
    console.print(f"report: {_write_report(out, console)}", soft_wrap=True)
    if outcome.left:
        console.print(
            f"{outcome.left} of {outcome.units} units were not committed: their workers died. Run the same command "
            "again to retry them.",
            style="bold yellow",
        )
        return _EXIT_INCOMPLETE
    return 0


def _write_report(out: AnyPath, console: Console, samples: int = 1000) -> AnyPath:
    layout = Layout(out)
    try:
        summary = collect(layout)
        if summary.comparison:
            console.print(_beside_the_paper(summary.comparison))
        return write_page(layout, summary, samples)
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise FatalError(
            f"the report cannot be written: {error}; the units are committed, `python -m pipeline verify {out}` says "
            "whether they are whole"
        ) from error


def _beside_the_paper(comparison: Comparison) -> Table:
    table = Table(comparison.title, "paper", "this run", caption=comparison.note)
    for line in comparison.lines:
        table.add_row(line.label, line.paper, line.ours)
    return table


def _executor(local: bool, address: str | None, workers: int | None, verbose: bool) -> Executor:
    if local and (address or workers):
        raise typer.BadParameter("--local runs in this process: it goes with neither --address nor --workers")
    if local:
        from pipeline.local import run_local

        return run_local
    from pipeline.cluster import RayOptions, run_on_ray

    options = RayOptions(address=address, workers=workers, quiet=not verbose)
    return lambda job, units: run_on_ray(job, units, options)


def _progress(log_json: bool) -> Progress:
    if log_json:
        return JsonProgress()
    console = Console(stderr=True)
    return BarProgress(console) if console.is_terminal else LineProgress()


def _measured(progress: Progress, port: int | None, host: str, file: Path | None) -> Progress:
    """Metrics, where they are asked for, beside what a person sees."""
    exports: list[Progress] = [] if port is None else [MetricsPort(host, port, partial(print, file=sys.stderr))]
    if file is not None:
        exports.append(MetricsFile(file))
    return Together(*exports, progress) if exports else progress


@app.command(name="retry")
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
    metrics_host: MetricsHost = "127.0.0.1",
    metrics_file: MetricsFileOption = None,
    verbose: Verbose = False,
) -> None:
    """Try the rows again that were rejected for some reasons. Committed shards stay as they are.

    Rows that succeed now go into further shards of the same folder, numbered after all others, and every count takes a
    row where it was tried last. Killed, the same command goes on; after it is done, the same command tries once more
    what failed again. The manifest and its limit are those that the folder holds.
    """
    names = [name.strip() for name in classes.split(",") if name.strip()]
    with _readable_errors():
        layout = Layout(_place(folder))
        if dry_run:
            counts = count(layout, names)
            for name, number in counts.most_common():
                print(f"{number:,} {name}")
            print(f"{counts.total():,} rows would be tried again")
            return
        executor = _executor(local, address, workers, verbose)
        progress = _measured(_progress(log_json), metrics_port, metrics_host, metrics_file)
        code = _finish(layout.root, lambda: _retry(layout, names, executor, progress, not log_json))
    raise typer.Exit(code)


def _retry(layout: Layout, classes: Sequence[str], executor: Executor, progress: Progress, say: bool) -> Outcome:
    outcome, plan = retry(layout, classes, executor, progress)
    if not plan.units:
        print(f"no row stands rejected for {', '.join(classes)}; nothing to try again")
    elif say:
        units = {unit.number for unit in plan.units}
        kept = sum(record.kept for record in layout.unit_records() if record.unit in units)
        print(f"attempt {plan.attempt}: {plan.rows:,} rows tried again, {kept:,} of them kept")
    return outcome


@app.command()
def pack(
    folder: RunFolder,
    out: Annotated[
        str, typer.Option(metavar="DIR", help="Folder or URL of the packed run: new, empty, or to go on with")
    ],
    shard_bytes: Annotated[str, typer.Option(help="Size of a shard at most, e.g. 1GB, 500MB, 1GiB")] = "1GB",
    split: Annotated[
        str | None, typer.Option(help="Sides with their shares, e.g. train=80,validation=20; each a folder in --out")
    ] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Take what a run that is not finished has so far")] = False,
) -> None:
    """Join the many small shards of a run to few large ones, in order, and check them on the way.

    The folder that comes out is a run like any other: the trainer's stream, verify, status, report and the `shards`
    source read it. Killed, the same command goes on; what is packed stays, and units that came since are added. With
    --split, a sample's side follows from a hash of its group, else its picture, else its key, and never changes.
    """
    console = Console(stderr=True)
    with _readable_errors():
        options = PackOptions(
            shard_bytes=_bytes(shard_bytes), split=Split.parse(split) if split else None, partial=partial
        )
        packer = Packer(Layout(_place(folder)), _place(out), options)
        with telling(console, "packing") as told:
            packed = packer.pack(told)
    print(f"{packed.units:,} units packed by this call")
    for path, shards, kept, size in packed.sides:
        print(f"{path}: {shards:,} shards, {kept:,} samples, {size / 1e9:,.3f} GB")


def _bytes(text: str) -> int:
    try:
        size = TypeAdapter(ByteSize).validate_python(text)
    except ValidationError:
        size = ByteSize(0)
    if size < 1:
        raise PackError(f"--shard-bytes {text!r} is no size; give a number of bytes, or one with its unit: 1GB, 500MiB")
    return int(size)


@app.command()
def dedup(
    target: Annotated[str, typer.Argument(metavar="MANIFEST|DIR", help="A manifest, or the output folder of a run")],
    out: Annotated[Path, typer.Option(help="Keep-list to write, e.g. keep.parquet")],
    by: Annotated[By, typer.Option(help="A manifest's rows: url; a run's samples: url, sha256 or phash")] = By.URL,
    max_distance: Annotated[
        int, typer.Option(min=0, max=MOST_BITS, help="By phash: most bits of 64 that neighbours of a group differ in")
    ] = 4,
) -> None:
    """Find duplicates across all units ahead of a run, and write a keep-list for `source: {keep: [keep.parquet]}`.

    The first in the source's order is kept; the run drops the others before it does anything with them, each with the
    key of the one kept. By URL over the metadata, memory stays flat, and disk takes 60 bytes a row meanwhile. By
    sha256 or phash it reads a run's shards; the list then holds for that run's manifest, and for `shards` sources.
    """
    console = Console(stderr=True)
    with _readable_errors(), telling(console, f"reading, by {by}", rows) as told:
        layout = Layout(_place(target))
        if layout.root.is_dir():
            found = dedup_run(layout, by, max_distance, out, told)
        elif by is By.URL:
            found = dedup_source(read_manifest(Path(target)), out, told)
        else:
            raise DedupError(f"--by {by} needs the pictures: run {target}, then give the run's folder")
    print(f"{found.duplicates:,} of {found.rows:,} rows repeat another: {out}")


@app.command()
def check(manifest: ManifestPath, limit: Limit = None) -> None:
    """Validate a manifest, form and meaning, and print its plan. Starts no worker."""
    with _readable_errors():
        prepared = prepare(read_manifest(manifest), limit)
    info, source = prepared.info, prepared.source
    print(f"{info.name}: {info.rows:,} rows in {len(source.parts):,} parts, {info.units:,} units")
    print(f"source: {', '.join(sorted(source.gives))}")
    for line in describe(prepared.plan):
        print(line)


@app.command(name="plan")
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
    probe: Annotated[int, typer.Option(min=1, help="Without --from: run the first N rows here and now")] = 256,
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

    Costs by record and the share that survives each stage come from a run (--from DIR), or from a probe: the first
    rows are run in this process, into a folder that is removed. Each figure comes with the range that 95 of 100 such
    measurements would fall in. Then: which pool is the bottleneck, which stage is the dearest, and what a change of one
    stage would do to rows, hours and money.

    Example: python -m pipeline plan mine.yaml --rows 2e9 --deadline 72h --from out --speedup ground=20
    """
    with _readable_errors():
        options = PlanOptions(
            rows=None if rows is None else parse_rows(rows),
            deadline_h=None if deadline is None else parse_hours(deadline),
            busy=busy,
            prices=prices,
            measured=None if measured is None else Layout(_place(measured)),
            probe=probe,
            nodes=nodes,
            speedups=parse_speedups(speedup or ()),
        )
        report = forecast_run(read_manifest(manifest), options, lambda: LineProgress(sys.stderr))
    if as_json:
        print(json.dumps(to_json(report), indent=1))
    else:
        print_forecast(report, Console())


@app.command()
def status(folder: RunFolder) -> None:
    """How far a run is: units done and left, rates, reasons, time to go."""
    with _readable_errors():
        print_status(Layout(_place(folder)), Console())


@app.command()
def report(
    folder: RunFolder,
    samples: Annotated[int, typer.Option(min=0, help="Kept samples to show, evenly spread over the run")] = 1000,
) -> None:
    """(Re)build the HTML report of a run, finished or not; print its statistics beside its paper's."""
    with _readable_errors():
        place = _place(folder)
        Layout(place).read_run()
        print(_write_report(place, Console(), samples))


@app.command(name="verify")
def verify_command(folder: RunFolder) -> None:
    """Re-read every committed shard: checksums, index, record counts, schema."""
    with _readable_errors():
        mistakes, found, units = verify(Layout(_place(folder)))
    for mistake in mistakes:
        print(mistake)
    print(f"{found:,} of {units:,} units verified, {len(mistakes):,} mistakes")
    raise typer.Exit(_EXIT_INCOMPLETE if mistakes else 0)


@app.command()
def pairs(
    folder: RunFolder,
    feature: Annotated[str, typer.Option(help="Vectors to compare, e.g. subject*_dino_vector or face*_adaface_vector")],
    min_similarity: Annotated[float, typer.Option(min=-1, max=1, help="Least cosine of one identity")],
    max_similarity: Annotated[float, typer.Option(min=-1, max=1, help="From this cosine on: a duplicate")] = 0.98,
    within: Annotated[
        list[Within] | None, typer.Option(help="What linked subjects share: group, head; or both")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Table to write; without it DIR/pairs.parquet")] = None,
) -> None:
    """Link subjects of one identity in different pictures: each other's nearest, by a feature of the shards."""
    table = _place(out) if out else _place(folder) / "pairs.parquet"
    limits = Limits(low=min_similarity, high=max_similarity)
    with _readable_errors():
        options = PairOptions(feature=feature, limits=limits, within=within or ())
        mined = mine(Layout(_place(folder)), options, table, Console(stderr=True))
    print(f"{mined.linked:,} of {mined.items:,} subjects linked, {mined.left_out:,} vectors left out: {table}")


@app.command()
def stages(
    name: Annotated[str | None, typer.Argument(help="A stage, to see its parameters and reasons")] = None,
) -> None:
    """List the stages, or one stage's parameters and reasons."""
    console = Console()
    for title in [name] if name else sorted(STAGES):
        stage = STAGES.get(title)
        if stage is None:
            console.print(f"no stage {title!r}; there are {', '.join(sorted(STAGES))}", style="bold red")
            raise typer.Exit(_EXIT_USER)
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


models = typer.Typer(help="The models that a manifest names.", no_args_is_help=True)
app.add_typer(models, name="models")


@models.command(name="prefetch")
def models_prefetch(
    manifest: ManifestPath,
    into: Annotated[Path | None, typer.Option(help="Folder; without it, the hub's own cache, $HF_HUB_CACHE")] = None,
) -> None:
    """Download every model a manifest names, once, and check what is there. Runs then need no network."""
    from pipeline.models import prefetch

    with _readable_errors():
        cache = prefetch(read_manifest(manifest), into, partial(print, flush=True))
    print(f"run it without network: {f'HF_HUB_CACHE={cache} ' if into else ''}HF_HUB_OFFLINE=1")


@models.command(name="list")
def models_list(manifest: ManifestPath) -> None:
    """List the models a manifest names, and where they are; exit code 1 if one is not here."""
    from pipeline.models import describe as describe_models

    with _readable_errors():
        lines = list(describe_models(read_manifest(manifest)))
    for line, _ in lines:
        print(line)
    raise typer.Exit(0 if all(is_here for _, is_here in lines) else _EXIT_INCOMPLETE)


@app.command()
def schema() -> None:
    """Print the JSON Schema of manifests, for editors (kept in manifests/schema.json)."""
    sys.stdout.write(json_schema())


@app.command()
def demo(
    out: Annotated[Path | None, typer.Option(help="Output folder; without it, one under build/demo")] = None,
    local: Local = False,
    address: Address = None,
    workers: Workers = None,
    log_json: LogJson = False,
    training: Annotated[bool, typer.Option(help="Go on to train tiny models, and have them draw")] = True,
) -> None:
    """Make some hundreds of rows from real photographs, serve them on 127.0.0.1, run manifests/demo.yaml on them.

    Then run networks on drawn scenes, train a tiny model of each family on more of these, and show what they draw.
    """
    from pipeline.demo.show import show

    with _readable_errors():
        code = show(
            out,
            lambda manifest, folder, limit: _run(
                manifest,
                folder,
                limit,
                partial(execute, executor=_executor(local, address, workers, False), progress=_progress(log_json)),
            ),
            training,
        )
    raise typer.Exit(code)


@app.command()
def prompts(
    model: Annotated[str, typer.Option(help="Chat model: folder, or hub id with its revision")],
    out: Annotated[Path, typer.Option(help="Text file to write, a line each; must not be there yet")],
    kind: Annotated[Kind, typer.Option(help="contents: what pictures show; styles: how they look")],
    count: Annotated[int, typer.Option(min=1, help="How many")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the sampling")] = 0,
    about: Annotated[
        Path | None, typer.Option(help="File of examples in the same form, to write more like them")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Commit or tag of a hub id")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda")] = "cpu",
) -> None:
    """Have a chat model write a list of contents or styles, for the `prompts` source."""
    with _readable_errors():
        request = ListRequest(kind=kind, count=count, seed=seed, examples=read_list(str(about)) if about else ())
        write_list(request, ModelRef(name=model, revision=revision), device, out)
    print(f"{count:,} {kind} in {out}")


if __name__ == "__main__":
    app()
