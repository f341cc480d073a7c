"""Find the duplicates of a whole data set, ahead of a run: by URL in the metadata, by file or picture in its shards."""

import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from manifests.dag import ManifestFile
from manifests.files import AnyPath
from manifests.record import Picture
from pipeline.duplicates.near import first_alike
from pipeline.duplicates.repeats import Text, find_repeats
from pipeline.ledger import Layout
from pipeline.members import Member, list_members, read_members
from pipeline.sources import open_source
from pipeline.sources.base import Source, cut_units
from pipeline.sources.keep_list import KEEP_SCHEMA, write_keep_list
from pipeline.telling import Told
from stages.phash import perceptual_hash

_UNIT_ROWS = 8192
_HASHED_AT_ONCE = 256


class By(StrEnum):
    """What duplicates have in common."""

    URL = "url"
    SHA256 = "sha256"
    PHASH = "phash"


_REASONS = {By.URL: "duplicate_url", By.SHA256: "duplicate_file", By.PHASH: "near_duplicate"}


class DedupError(ValueError):
    """Duplicates that cannot be looked for; the message says why and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deduped:
    """Rows looked at, and those that repeat another."""

    rows: int
    duplicates: int


def dedup_source(file: ManifestFile, out: AnyPath, told: Told) -> Deduped:
    """Write the keep-list of a manifest's source by URL, in memory that does not grow with its rows.

    Raises:
        SourceError: If the source cannot be read.
        DedupError: If it has no URLs.
        OSError: If the disk is full: beside ``out``, or in ``$TMPDIR`` if that is in a store, about 60 bytes a row are
            needed meanwhile.
    """
    source = open_source(file.manifest.source.model_copy(update={"keep": ()}))
    if "url" not in source.gives:
        raise DedupError(f"{file.name}: the source gives no URLs; run it, then give the run's folder and --by sha256")
    rows = sum(part.rows for part in source.parts)
    return _write_repeats(_urls(source, rows, told), rows, By.URL, out)


def _urls(source: Source, rows: int, told: Told) -> Iterator[Text]:
    done = 0
    for unit in cut_units([part.rows for part in source.parts], _UNIT_ROWS):
        yield from source.urls(unit)
        done += unit.rows
        told(done, rows)


def _write_repeats(texts: Iterator[Text], rows: int, by: By, out: AnyPath) -> Deduped:
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.parent if isinstance(out, Path) else None
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=beside) as folder:
        tables = find_repeats(texts, rows, Path(folder) / "dealt")
        written = write_keep_list(out, (_list(table["key"], table["kept"], by) for table in tables))
    return Deduped(rows=rows, duplicates=written)


def _list(keys: pa.ChunkedArray, kept: pa.ChunkedArray, by: By) -> pa.Table:
    return pa.table([keys, kept, pa.array([_REASONS[by]] * len(keys), pa.string())], schema=KEEP_SCHEMA)


def dedup_run(layout: Layout, by: By, max_distance: int, out: AnyPath, told: Told) -> Deduped:
    """Write the keep-list of a run's committed samples, in the order of its units.

    Args:
        layout: The run's folder.
        by: What duplicates have in common.
        max_distance: By ``phash``, most bits that neighbours of one group differ in.
        out: The keep-list.
        told: Told of the samples read.

    Raises:
        ResumeError: If the folder holds no run.
        MemberError: If a shard is not what its index says.
        OSError: If something cannot be read or written.
    """
    layout.read_run()
    rows = sum(record.kept for record in layout.unit_records())
    if by is By.PHASH:
        return _dedup_pictures(layout, rows, max_distance, out, told)
    return _write_repeats(_told(_texts(layout, by.value), rows, told), rows, by, out)


def _told(texts: Iterator[Text], rows: int, told: Told) -> Iterator[Text]:
    for done, text in enumerate(texts, 1):
        yield text
        told(done, rows)


def _texts(layout: Layout, field: str) -> Iterator[Text]:
    for unit in layout.committed():
        members = list_members(layout.index(unit), lambda name: name == "json")
        for member, data in read_members(layout.tar(unit), members):
            yield member.key, json.loads(data)[field]


def _dedup_pictures(layout: Layout, rows: int, max_distance: int, out: AnyPath, told: Told) -> Deduped:
    """Hashes of all pictures are in memory at once, 8 bytes and a key each."""
    keys: list[str] = []
    hashes: list[int] = []
    for done, (key, value) in enumerate(_hashed(layout), 1):
        if value is not None:
            keys.append(key)
            hashes.append(value)
        told(done, rows)
    firsts = first_alike(np.array(hashes, np.uint64), max_distance)
    repeated = np.flatnonzero(firsts != np.arange(len(firsts)))
    names = pa.chunked_array([keys], pa.string())
    found = _list(names.take(pa.array(repeated)), names.take(pa.array(firsts[repeated])), By.PHASH)
    return Deduped(rows=rows, duplicates=write_keep_list(out, [found]))


def _hashed(layout: Layout) -> Iterator[tuple[str, int | None]]:
    """Key and perceptual hash of every sample's picture, in order; a picture a thread."""
    pictures = _pictures(layout)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        while some := list(islice(pictures, _HASHED_AT_ONCE)):
            values = pool.map(lambda item: perceptual_hash(item[1]), some)
            yield from zip((member.key for member, _ in some), values, strict=True)


def _pictures(layout: Layout) -> Iterator[tuple[Member, Picture]]:
    for unit in layout.committed():
        members = list_members(layout.index(unit), lambda name: name in ("jpg", "png"))
        for member, data in read_members(layout.tar(unit), members):
            width, height = member.width or 0, member.height or 0
            yield (
                member,
                Picture(format="jpg" if member.name == "jpg" else "png", width=width, height=height, data=data),
            )
