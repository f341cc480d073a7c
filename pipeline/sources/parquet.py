"""Parquet metadata with URLs: LAION, COYO, GRIT, or any file with a URL column.

Planning reads footers only. A part's digest is that of its footer (schema, sizes, offsets, statistics) and file size;
an edit that leaves all of these as they were goes unnoticed.
"""

import hashlib
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import dag
from manifests.record import Row
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.columns import ALIASES, Columns, find_columns, read_text
from pipeline.sources.paths import File, distinct, expand
from pipeline.sources.rows import fail, make_row, reasons

_TAIL_BYTES = 65_536
"""What planning reads of a file at first; most footers fit."""

_SLAB_ROWS = 8192
"""Rows decoded at once, so that memory does not grow with row groups (those of LAION hold a million rows)."""

_BUFFER_BYTES = 1 << 20
"""Bytes a column is read ahead."""


class Parquet(Source):
    """Rows of Parquet files, one part a file."""

    reasons = reasons("bad_text", "no_url")

    def __init__(self, config: dag.ParquetSource) -> None:
        self._tables = tuple(_plan(file, config.columns) for file in expand(config.paths))
        if not any(table.rows for table in self._tables):
            raise SourceError(f"{', '.join(config.paths)}: no rows in {len(self._tables)} files; nothing to do")
        self.parts = distinct(Part(table.file.name, table.rows, table.digest) for table in self._tables)
        self.gives = frozenset(field for table in self._tables for field in table.columns)

    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows; one without URL is failed as ``no_url``, one with damaged words as ``bad_text``."""
        part, table = self.parts[unit.part], self._tables[unit.part]
        names = tuple(sorted({name for names in table.columns.values() for name in names}))
        values = _cursor(table.file, table.digest, names).take(unit.start, unit.stop)
        fields = {field: values[names[0]] for field, names in table.columns.items() if field != "annotations"}
        chunks = [values[name] for name in table.columns.get("annotations", ())]
        return [
            _row(part, unit.start + i, {field: column[i] for field, column in fields.items()}, [c[i] for c in chunks])
            for i in range(unit.rows)
        ]

    def urls(self, unit: Unit) -> list[tuple[str, str | None]]:
        """Key and URL of the unit's rows, without reading any other column."""
        part, table = self.parts[unit.part], self._tables[unit.part]
        (name,) = table.columns["url"]
        values = _cursor(table.file, table.digest, (name,)).take(unit.start, unit.stop)[name]
        return [(part.key(unit.start + i), (read_text(url) or "").strip() or None) for i, url in enumerate(values)]


def _row(part: Part, number: int, values: Mapping[str, object], chunks: Sequence[object]) -> Row:
    row = make_row(part, number, values, chunks)
    if row.verdict is None and not (row.record.url or "").strip():
        return fail(row, "no_url", f"{part.name}, row {number}: the URL is {row.record.url!r}")
    return row


@dataclass(frozen=True, slots=True)
class _Table:
    """A file as planned: ``digest`` is that of its footer, ``columns`` what fills which record field."""

    file: File
    rows: int
    digest: str
    columns: Columns


def _plan(file: File, overrides: Mapping[str, str]) -> _Table:
    footer = _footer(file)
    metadata = _metadata(file, footer)
    columns = _columns(file, metadata.schema.to_arrow_schema(), overrides) if metadata.num_rows else {}
    return _Table(file, metadata.num_rows, _digest(file, footer), columns)


def _digest(file: File, footer: bytes) -> str:
    return hashlib.sha256(footer + file.size.to_bytes(8, "little")).hexdigest()


def _footer(file: File) -> bytes:
    """The footer with its length and mark, as the file ends."""
    try:
        tail = file.tail(_TAIL_BYTES)
        size = int.from_bytes(tail[-8:-4], "little") + 8
        if not tail.endswith(b"PAR1") or not 12 <= size <= file.size:
            raise SourceError(
                f"{file.name}: ends with {tail[-4:]!r}, not with a footer and b'PAR1'; it is no Parquet file, or was "
                "cut off: fetch or write it again"
            )
        return tail[-size:] if size <= len(tail) else file.tail(size)
    except OSError as error:
        raise SourceError(f"{file.name}: cannot be read: {error}") from None


def _metadata(file: File, footer: bytes) -> Any:
    try:
        metadata = pq.read_metadata(pa.BufferReader(footer))
        metadata.schema.to_arrow_schema().names  # noqa: B018  (damaged names show only here)
        return metadata
    except (OSError, ValueError) as error:
        raise SourceError(
            f"{file.name}: the Parquet footer is damaged; fetch or write the file again ({error})"
        ) from None


def _columns(file: File, schema: Any, overrides: Mapping[str, str]) -> Columns:
    """What fills which record field, checked against the file's types."""
    have = f"the file has {', '.join(schema.names) or 'no columns'}"
    for field, name in overrides.items():
        if field not in ALIASES:
            raise SourceError(f"columns: {field!r} is no field of a Parquet source; there are {', '.join(ALIASES)}")
        if name not in schema.names:
            raise SourceError(f"{file.name}: no column {name!r}, which the manifest wants as {field}; {have}")
    columns = find_columns(schema.names) | {field: (name,) for field, name in overrides.items()}
    if "url" not in columns:
        raise SourceError(f"{file.name}: no URL column; {have}; name it in the manifest: columns: {{url: NAME}}")
    for field, names in columns.items():
        for name in names:
            _check_type(file, schema, field, name)
    return columns


def _check_type(file: File, schema: Any, field: str, name: str) -> None:
    if schema.names.count(name) > 1:
        raise SourceError(f"{file.name}: there are {schema.names.count(name)} columns {name!r}; rename all but one")
    accepts, wanted = _ACCEPTS[field]
    found = schema.field(name).type
    if not (accepts(found) or pa.types.is_null(found)):
        raise SourceError(
            f"{file.name}: column {name!r} holds {found}, but {field} is {wanted}; name another in the manifest "
            f"(columns: {{{field}: NAME}}) or rewrite the file"
        )


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    tests = (
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    )
    return any(test(kind) for test in tests)


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_id(kind: Any) -> bool:
    return _is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list_of(kind: Any, accepts: Callable[[Any], bool]) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and accepts(kind.value_type)


def _is_boxes(kind: Any) -> bool:
    return _is_list_of(kind, lambda part: pa.types.is_null(part) or _is_list_of(part, _is_number))


_NUMBER = (_is_number, "a number")
_ACCEPTS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "source_id": (_is_id, "a text or a number"),
    "url": (_is_text, "a text"),
    "alt_text": (_is_text, "a text"),
    "stated_width": _NUMBER,
    "stated_height": _NUMBER,
    "aesthetic": _NUMBER,
    "similarity": _NUMBER,
    "watermark": _NUMBER,
    "nsfw": _NUMBER,
    "group": (_is_id, "a text or a number"),
    "annotations": (_is_boxes, "lists of [start, end, x0, y0, x1, y1, score]"),
}


class _Cursor:
    """Reads a file's rows, holding one slab of them.

    Consecutive units decode nothing twice. Going back, or past the next row group, starts at a row group's first row.
    """

    def __init__(self, file: File, data: Any, columns: Sequence[str]) -> None:
        self._name = file.name
        self._data = data
        self._columns = list(columns)
        sizes = [data.metadata.row_group(group).num_rows for group in range(data.num_row_groups)]
        self._group_starts = [0, *accumulate(sizes)]
        self._lock = threading.Lock()
        self._slabs: Iterator[Any] = iter(())
        self._slab: Any = None
        self._start = self._stop = -1

    def take(self, start: int, stop: int) -> dict[str, list[Any]]:
        """The values of rows ``[start, stop)`` by column."""
        values: dict[str, list[Any]] = {name: [] for name in self._columns}
        with self._lock:
            self._seek(start)
            while start < stop:
                self._advance_to(start)
                slab = self._slab.slice(start - self._start, stop - start)
                for name in self._columns:
                    values[name] += _to_python(slab.column(name))
                start += slab.num_rows
        return values

    def _seek(self, row: int) -> None:
        group = bisect_right(self._group_starts, row) - 1
        first = self._group_starts[group]
        if self._start <= row and first <= self._stop:
            return
        self._slabs = self._data.iter_batches(
            _SLAB_ROWS, row_groups=range(group, self._data.num_row_groups), columns=self._columns
        )
        self._start = self._stop = first

    def _advance_to(self, row: int) -> None:
        try:
            while row >= self._stop:
                self._slab = next(self._slabs)
                self._start, self._stop = self._stop, self._stop + self._slab.num_rows
        except (OSError, ValueError, StopIteration) as error:
            self._stop = -1
            raise SourceError(
                f"{self._name}: row {row} cannot be read; the file is damaged: fetch or write it again ({error})"
            ) from None


def _to_python(column: Any) -> list[Any]:
    """The values, text as bytes: the file promises no valid UTF-8."""
    return list((column.cast(pa.large_binary()) if _is_text(column.type) else column).to_pylist())


@lru_cache(maxsize=1)
def _cursor(file: File, digest: str, columns: tuple[str, ...]) -> _Cursor:
    """A cursor on a file that is still the one planned, kept for the next unit."""
    file.check_size()
    footer = _footer(file)
    if _digest(file, footer) != digest:
        raise SourceError(f"{file.name}: has changed since the run was planned; start a new run")
    where = file.url if isinstance(file.path, Path) else file.open()
    options = {"metadata": _metadata(file, footer), "buffer_size": _BUFFER_BYTES, "pre_buffer": False}
    return _Cursor(file, pq.ParquetFile(where, **options), columns)
