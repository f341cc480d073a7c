"""The demo's table: good rows cut from the photographs, bad ones among them; pictures and GRIT-schema Parquet."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.files import write_atomically
from pipeline.demo.entry import Entry, good_entry
from pipeline.demo.faults import FAULTS
from pipeline.demo.photos import PHOTOS
from pipeline.demo.server import MOVED, PICTURES
from pipeline.demo.views import Phrase, views_of

FILES = 3
"""Parquet files the table is cut into."""
ROW_GROUP = 50

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("clip_similarity_vitb32", pa.float64()),
        ("clip_similarity_vitl14", pa.float64()),
        ("id", pa.int64()),
        ("url", pa.string()),
        ("caption", pa.string()),
        ("width", pa.int64()),
        ("height", pa.int64()),
        ("noun_chunks", pa.list_(pa.list_(pa.float64()))),
        ("ref_exps", pa.list_(pa.list_(pa.float64()))),
    ]
)
"""Columns and types as GRIT is published (https://huggingface.co/datasets/zzliang/GRIT)."""

_FIRST_ID = 2**53 + 1
"""With the odd numbers above it no float can hold, as real ids may be."""

_BELONGS_TO_NOUN = ("above", "behind", "below", "beside", "in", "near", "next", "of", "on", "over", "under", "with")
"""Words after a noun that start a description of it."""


def build(folder: Path, port: int) -> list[Path]:
    """Write the demo's pictures and table, and return the table's Parquet files.

    Equal calls write equal bytes; files that are already right are left alone.

    Args:
        folder: Where to: Parquet files right in it, pictures in ``pictures/``.
        port: Port of the server on 127.0.0.1 that the URLs name.
    """
    table = entries()
    for entry in table:
        if entry.path is not None and entry.file is not None:
            _write(folder / PICTURES / entry.path.removeprefix(f"{MOVED}/").lstrip("/"), entry.file)
    rows = [_row(number, entry, port) for number, entry in enumerate(table)]
    size = -(-len(rows) // FILES)
    paths = [folder / f"demo_{number}_snappy.parquet" for number in range(FILES)]
    for number, path in enumerate(paths):
        _write(path, _parquet(rows[number * size : (number + 1) * size]))
    return paths


def entries() -> list[Entry]:
    """The table, in order: shuffled views of all photographs, and every fault right after the entry it is made from."""
    views = [view for photo in PHOTOS for view in views_of(photo)]
    random.Random("order of the demo's rows").shuffle(views)
    good = [good_entry(view, number) for number, view in enumerate(views)]
    return list(_with_faults(good))


def _with_faults(good: Sequence[Entry]) -> Iterator[Entry]:
    distance = len(good) // len(FAULTS)
    for number, entry in enumerate(good):
        yield entry
        place, rest = divmod(number, distance)
        if rest == distance // 2 and place < len(FAULTS):
            kind, fault = FAULTS[place]
            yield replace(fault(entry), kind=kind)


def _row(number: int, entry: Entry, port: int) -> dict[str, Any]:
    """A row of the table. CLIP similarities are not known, and so null; boxes drawn by hand have score 1."""
    return {
        "key": f"{number:09d}",
        "clip_similarity_vitb32": None,
        "clip_similarity_vitl14": None,
        "id": _FIRST_ID + 2 * number,
        "url": entry.url(port),
        "caption": entry.caption,
        "width": entry.width,
        "height": entry.height,
        "noun_chunks": [[phrase.start, phrase.end, *phrase.box, 1.0] for phrase in entry.phrases],
        "ref_exps": [_expression(phrase, entry.caption or "") for phrase in entry.phrases],
    }


def _expression(phrase: Phrase, caption: str) -> list[float]:
    """The phrase with what describes it: all of a caption that starts with it and goes on to describe it."""
    following = caption[phrase.end :].split()
    is_described = phrase.start == 0 and bool(following) and following[0] in _BELONGS_TO_NOUN
    return [phrase.start, len(caption) if is_described else phrase.end, *phrase.box, 1.0]


def _parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    file = BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), SCHEMA), file, row_group_size=ROW_GROUP)
    return file.getvalue()


def _write(path: Path, data: bytes) -> None:
    if not (path.is_file() and path.read_bytes() == data):
        write_atomically(path, data)
