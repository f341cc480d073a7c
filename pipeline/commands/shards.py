"""``pack``, ``dedup``, ``verify`` and ``pairs``: what is done with shards, or ahead of them."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import ByteSize, TypeAdapter, ValidationError
from rich.console import Console

from manifests.dag import read_manifest
from pipeline.commands.console import EXIT_INCOMPLETE, place_of, readable_errors, written_place
from pipeline.commands.options import RunFolder
from pipeline.duplicates.dedup import By, DedupError, dedup_run, dedup_source
from pipeline.duplicates.near import MOST_BITS
from pipeline.ledger import Layout
from pipeline.packing.pack import Packer, PackOptions
from pipeline.packing.split import Split
from pipeline.packing.unpacked import PackError
from pipeline.pairing.neighbours import Limits
from pipeline.pairing.pairs import PairOptions, Within, mine
from pipeline.telling import rows, telling
from pipeline.telling import units as units_of
from pipeline.verify import verify

_MAX_DISTANCE = 4


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
    with readable_errors():
        options = PackOptions(
            shard_bytes=_bytes(shard_bytes), split=Split.parse(split) if split else None, partial=partial
        )
        packer = Packer(Layout(place_of(folder)), written_place(out), options)
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


def dedup(
    target: Annotated[str, typer.Argument(metavar="MANIFEST|DIR", help="A manifest, or the output folder of a run")],
    out: Annotated[str, typer.Option(help="Keep-list to write, e.g. keep.parquet, or its URL")],
    by: Annotated[By, typer.Option(help="A manifest's rows: url; a run's samples: url, sha256 or phash")] = By.URL,
    max_distance: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_BITS,
            help="By phash: most bits of 64 that neighbours of a group differ in",
            show_default=str(_MAX_DISTANCE),
        ),
    ] = None,
) -> None:
    """Find duplicates across all units ahead of a run, and write a keep-list for `source.keep`.

    The first in the source's order is kept; the run drops the others before it does anything with them, each with the
    key of the one kept. By URL over the metadata, memory stays flat, and disk takes 60 bytes a row meanwhile. By
    sha256 or phash it reads a run's shards; the list then holds for that run's manifest, and for `shards` sources.
    """
    if max_distance is not None and by is not By.PHASH:
        raise typer.BadParameter(f"--max-distance goes with --by phash; --by {by} takes what is equal")
    most = _MAX_DISTANCE if max_distance is None else max_distance
    console = Console(stderr=True)
    with readable_errors(), telling(console, f"reading, by {by}", rows) as told:
        layout, keep = Layout(place_of(target)), written_place(out)
        if layout.root.is_dir():
            found = dedup_run(layout, by, most, keep, told)
        elif by is By.URL:
            found = dedup_source(read_manifest(Path(target)), keep, told)
        else:
            raise DedupError(f"--by {by} needs the pictures: run {target}, then give the run's folder")
    print(f"{found.duplicates:,} of {found.rows:,} rows repeat another: {out}")


def verify_command(folder: RunFolder) -> None:
    """Re-read every committed shard: checksums, index, record counts, schema."""
    with readable_errors(), telling(Console(stderr=True), "verifying", units_of) as told:
        layout = Layout(place_of(folder))
        mistakes, found, units = verify(layout, told)
        is_packed = layout.read_run().packed_from is not None
    for mistake in mistakes:
        print(mistake)
    print(f"{found:,} of {units:,} units verified, {len(mistakes):,} mistakes")
    if mistakes and not is_packed:
        record = layout.unit("NUMBER")
        print(f"to make a unit anew: delete its record, {record}, and run its manifest again into the same folder")
    raise typer.Exit(EXIT_INCOMPLETE if mistakes else 0)


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
    table = written_place(out) if out else place_of(folder) / "pairs.parquet"
    limits = Limits(low=min_similarity, high=max_similarity)
    with readable_errors():
        options = PairOptions(feature=feature, limits=limits, within=within or ())
        mined = mine(Layout(place_of(folder)), options, table, Console(stderr=True))
    print(f"{mined.linked:,} of {mined.items:,} subjects linked, {mined.left_out:,} vectors left out: {table}")
