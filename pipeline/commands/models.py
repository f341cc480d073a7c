"""``models`` and ``prompts``: weights that are downloaded, and a chat model that writes lists."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from manifests.dag import read_manifest
from pipeline.commands.console import EXIT_INCOMPLETE, readable_errors
from pipeline.commands.options import ManifestPath
from pipeline.lists import Kind, ListRequest, write_list
from pipeline.sources.prompts import read_list
from stages.base import ModelRef

models = typer.Typer(help="The models that a manifest names.", no_args_is_help=True)


@models.command(name="prefetch")
def models_prefetch(
    manifest: ManifestPath,
    into: Annotated[Path | None, typer.Option(help="Folder; without it, the hub's own cache, $HF_HUB_CACHE")] = None,
) -> None:
    """Download every model a manifest names, once, and check what is there. Runs then need no network."""
    from pipeline.models import prefetch

    with readable_errors():
        cache = prefetch(read_manifest(manifest), into, partial(print, flush=True))
    print(f"run it without network: {f'HF_HUB_CACHE={cache} ' if into else ''}HF_HUB_OFFLINE=1")


@models.command(name="list")
def models_list(manifest: ManifestPath) -> None:
    """List the models a manifest names, and where they are; exit code 1 if one is not here."""
    from pipeline.models import describe as describe_models

    with readable_errors():
        lines = list(describe_models(read_manifest(manifest)))
    for line, _ in lines:
        print(line)
    raise typer.Exit(0 if all(is_here for _, is_here in lines) else EXIT_INCOMPLETE)


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
    with readable_errors():
        request = ListRequest(kind=kind, count=count, seed=seed, examples=read_list(str(about)) if about else ())
        write_list(request, ModelRef(name=model, revision=revision), device, out)
    print(f"{count:,} {kind} in {out}")
