"""``python -m training stream``: what a data set is as training reads it."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, RenderableType

from training.commands.console import progress_bar, readable_errors
from training.stream import bench as benching
from training.stream import describe as describing
from training.stream import verify as verifying
from training.stream.options import StreamOptions
from training.stream.order import OrderParams
from training.stream.recipe import STREAM_RECIPES, StreamRecipe, named_recipe
from training.stream.show import write_sheet
from training.stream.source import Dataset
from training.stream.stream import PromptStream
from training.stream.world import World

_EXIT_DAMAGED = 1

Folders = Annotated[list[str], typer.Argument(metavar="DIR...", help="Folders or URLs of shards, run or plain tars")]
RecipeName = Annotated[str, typer.Option(help=f"What becomes of a sample: {', '.join(STREAM_RECIPES)}")]
Base = Annotated[int | None, typer.Option(min=1, help="Side of the square bucket, pixels; else the recipe's")]
BatchSize = Annotated[int, typer.Option(min=1, help="Samples in a global batch")]
Seed = Annotated[int, typer.Option(help="Of the order and of every random draw")]
Threads = Annotated[int, typer.Option(min=1, help="That decode, or verify")]
Readers = Annotated[int, typer.Option(min=0, help="Processes that decode, with so many threads each; 0: this one")]
BenchFlag = Annotated[bool, typer.Option("--bench", help="Measure how fast it reads here")]
Show = Annotated[int | None, typer.Option(min=1, help="Write a contact sheet of N batches, as a trainer sees them")]
VerifyFlag = Annotated[
    bool, typer.Option("--verify", help="Read and check every sample; exit code 1 if any is damaged")
]
Decode = Annotated[bool, typer.Option("--decode", help="With --verify: decode every picture in full, not its header")]
Seconds = Annotated[float | None, typer.Option(min=0, help="With --bench: how long", show_default="10")]
Out = Annotated[
    Path | None, typer.Option(help="With --show: the HTML file to write", show_default="contact-sheet.html")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What the user asked for, checked."""

    datasets: tuple[Dataset, ...]
    recipe: StreamRecipe
    batch_size: int
    seed: int
    options: StreamOptions

    def open(self) -> PromptStream:
        return PromptStream(
            self.datasets,
            recipe=self.recipe,
            batch_size=self.batch_size,
            seed=self.seed,
            world=World(),
            options=self.options,
        )


def stream(
    folders: Folders,
    recipe: RecipeName = "plain",
    base: Base = None,
    batch_size: BatchSize = 32,
    seed: Seed = 0,
    threads: Threads = 2,
    readers: Readers = 0,
    bench: BenchFlag = False,
    show: Show = None,
    verify: VerifyFlag = False,
    decode: Decode = False,
    seconds: Seconds = None,
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Tell what a data set is as training reads it; or measure it, look at it, verify it.

    Without [bold]--bench[/bold], [bold]--show[/bold] or [bold]--verify[/bold] nothing but the index is read.
    """
    if bench + verify + (show is not None) > 1:
        raise typer.BadParameter("--bench, --show and --verify are one at a time")
    for option, mode, is_idle in (
        ("--decode", "--verify", decode and not verify),
        ("--seconds", "--bench", seconds is not None and not bench),
        ("--out", "--show", out is not None and show is None),
    ):
        if is_idle:
            raise typer.BadParameter(f"{option} goes with {mode}")
    with readable_errors():
        options = StreamOptions(threads=threads, readers=readers, max_damaged=1.0)
        request = _Request(
            datasets=tuple(Dataset(url=url) for url in folders),
            recipe=named_recipe(recipe, base),
            batch_size=batch_size,
            seed=seed,
            options=options,
        )
        if verify:
            raise typer.Exit(_verify(request, decode, as_json))
        if show is not None:
            print(_show(request, show, out or Path("contact-sheet.html")))
        elif bench:
            _bench(request, 10.0 if seconds is None else seconds, as_json)
        else:
            _describe(request, as_json)


def _show(request: _Request, batches: int, out: Path) -> Path:
    with request.open() as stream:
        return write_sheet(stream, batches, out)


def _bench(request: _Request, seconds: float, as_json: bool) -> None:
    with request.open() as stream, progress_bar("reading", seconds) as tell:
        result = benching.bench(stream, seconds, lambda passed, samples: tell(passed, seconds, f"{samples:,} samples"))
    rates = {name: getattr(result, name) for name in ("samples_per_s", "cpu_us_per_sample", "cores_busy", "hint")}
    _print(benching.table(result), {**asdict(result), **rates}, as_json)


def _verify(request: _Request, decode: bool, as_json: bool) -> int:
    options = verifying.VerifyOptions(threads=request.options.threads, decode=decode, cache=request.options.cache)
    damaged = 0
    for dataset in request.datasets:
        with progress_bar("verifying", 1) as tell:
            found = verifying.verify(
                dataset.url, options, lambda done, total: tell(done, total, f"{done:,} of {total:,} samples")
            )
        damaged += found.damaged
        if found.damaged or as_json:
            _print(verifying.table(found), {"url": dataset.url, **asdict(found)}, as_json)
        if not as_json:
            print(f"{dataset.url}: {found.samples:,} samples read, {found.damaged:,} damaged")
    return _EXIT_DAMAGED if damaged else 0


def _describe(request: _Request, as_json: bool) -> None:
    options = request.options
    order = OrderParams(seed=request.seed, batch_size=request.batch_size, block=options.block, window=options.window)
    found = describing.describe(request.datasets, request.recipe.buckets, order, options.cache)
    _print(describing.tables(found), asdict(found), as_json)


def _print(table: RenderableType, plain: object, as_json: bool) -> None:
    if as_json:
        print(json.dumps(plain))
    else:
        Console().print(table)
