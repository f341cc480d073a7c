"""Parquet metadata with URLs: LAION, COYO, GRIT, or any file with a URL column.

Planning reads footers only. A part's digest is that of its footer (schema, sizes, offsets, statistics) and file size;
an edit that leaves all of these as they were goes unnoticed.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests import dag
from manifests.record import Row
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.columns import ALIASES, Columns, find_columns, read_text
from pipeline.sources.paths import File, distinct, expand
from pipeline.sources.row_groups import Cursor, is_text
from pipeline.sources.rows import fail, make_row, reasons

_TAIL_BYTES = 65_536
"""What planning reads of a file at first; most footers fit."""


class Parquet(Source):
    """Rows of Parquet files, one part a file."""

    reasons = reasons("bad_text", "no_url", "unreadable_row_group")

    def __init__(self, config: dag.ParquetSource) -> None:
        self._tables = tuple(_plan(file, config.columns) for file in expand(config.paths))
        if not any(table.rows for table in self._tables):
            raise SourceError(f"{', '.join(config.paths)}: no rows in {len(self._tables)} files; nothing to do")
        self.parts = distinct(Part(table.file.name, table.rows, table.digest) for table in self._tables)
        self.gives = frozenset(field for table in self._tables for field in table.columns)

    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows; failed where they have no URL, damaged words, or stand in a damaged row group.

        Raises:
            SourceError: If the file has changed, or the storage fails.
        """
        part, table = self.parts[unit.part], self._tables[unit.part]
        names = tuple(sorted({name for names in table.columns.values() for name in names}))
        rows = _cursor(table.file, table.digest, names).take(unit.start, unit.stop)
        fields = {field: rows.values[names[0]] for field, names in table.columns.items() if field != "annotations"}
        chunks = [rows.values[name] for name in table.columns.get("annotations", ())]
        made = []
        for i, number in enumerate(range(unit.start, unit.stop)):
            if i in rows.damage:
                failed = fail(make_row(part, number, {}), "unreadable_row_group", f"{part.name}: {rows.damage[i]}")
                made.append(failed)
            else:
                values = {field: column[i] for field, column in fields.items()}
                made.append(_row(part, number, values, [column[i] for column in chunks]))
        return made

    def urls(self, unit: Unit) -> list[tuple[str, str | None]]:
        """Key and URL of the unit's rows, without reading any other column."""
        part, table = self.parts[unit.part], self._tables[unit.part]
        (name,) = table.columns["url"]
        values = _cursor(table.file, table.digest, (name,)).take(unit.start, unit.stop).values[name]
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
            if reader := _READERS.get(PurePath(file.name).suffix.lower()):
                raise SourceError(
                    f"{file.name}: rows are read from Parquet; write it as one: {_converted(file, reader)}"
                )
            raise SourceError(
                f"{file.name}: ends with {tail[-4:]!r}, not with a footer and b'PAR1'; it is no Parquet file, or was "
                "cut off: fetch or write it again"
            )
        return tail[-size:] if size <= len(tail) else file.tail(size)
    except OSError as error:
        raise SourceError(f"{file.name}: cannot be read: {error}") from None


_READERS = {
    ".csv": "csv.read_csv({name!r})",
    ".tsv": "csv.read_csv({name!r}, parse_options=csv.ParseOptions(delimiter='\\t'))",
    ".jsonl": "json.read_json({name!r})",
    ".ndjson": "json.read_json({name!r})",
}
"""How pyarrow reads other tables, by suffix."""


def _converted(file: File, reader: str) -> str:
    """A command that writes a table as Parquet."""
    target = str(PurePath(file.name).with_suffix(".parquet"))
    code = f"parquet.write_table({reader.format(name=file.name)}, {target!r})"
    return f'python -c "from pyarrow import csv, json, parquet; {code}"'


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


def _is_number(kind: Any) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_id(kind: Any) -> bool:
    return is_text(kind) or bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def _is_list_of(kind: Any, accepts: Callable[[Any], bool]) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and accepts(kind.value_type)


def _is_boxes(kind: Any) -> bool:
    return _is_list_of(kind, lambda part: pa.types.is_null(part) or _is_list_of(part, _is_number))


_NUMBER = (_is_number, "a number")
_ACCEPTS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "source_id": (_is_id, "a text or a number"),
    "url": (is_text, "a text"),
    "alt_text": (is_text, "a text"),
    "stated_width": _NUMBER,
    "stated_height": _NUMBER,
    "aesthetic": _NUMBER,
    "similarity": _NUMBER,
    "watermark": _NUMBER,
    "nsfw": _NUMBER,
    "group": (_is_id, "a text or a number"),
    "annotations": (_is_boxes, "lists of [start, end, x0, y0, x1, y1, score]"),
}


@lru_cache(maxsize=1)
def _cursor(file: File, digest: str, columns: tuple[str, ...]) -> Cursor:
    """A cursor on a file that is still the one planned, kept for the next unit."""
    file.check_size()
    footer = _footer(file)
    if _digest(file, footer) != digest:
        raise SourceError(f"{file.name}: has changed since the run was planned; start a new run")
    try:
        return Cursor(file, _metadata(file, footer), columns)
    except OSError as error:
        raise SourceError(f"{file.name}: cannot be read: {error}") from None
