"""What every test of a source does: read all of it, and hold it to the contract of ``Source`` while at it."""

import dataclasses
import pickle

import pyarrow as pa

from manifests.record import Record, Row, arrow_schema, from_plain, to_plain
from pipeline.sources.base import Source, cut_units

_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Record)}


def read_all(source: Source, unit_rows: int = 3) -> list[Row]:
    """All rows, after checking all that the contract promises of them."""
    rows = _read(source, unit_rows)
    sent = pickle.loads(pickle.dumps(source))
    assert (sent.parts, sent.gives, sent.fingerprint) == (source.parts, source.gives, source.fingerprint)
    assert _read(sent, 1000) == rows

    places = [(part, row) for part in source.parts for row in range(part.rows)]
    assert [(row.record.source, row.record.row) for row in rows] == [(part.name, row) for part, row in places]
    assert [row.record.key for row in rows] == [part.key(row) for part, row in places]
    assert len({row.record.key for row in rows}) == len(rows)

    filled = {name for row in rows for name in _DEFAULTS if getattr(row.record, name) != _DEFAULTS[name]}
    assert filled - {"key", "source", "row"} <= source.gives
    for verdict in filter(None, (row.verdict for row in rows)):
        assert (verdict.kind, verdict.node) == ("failed", "source")
        assert verdict.reason in source.reasons

    table = pa.Table.from_pylist([to_plain(row) for row in rows], schema=arrow_schema(Row))
    assert [from_plain(Row, plain) for plain in table.to_pylist()] == rows
    return rows


def _read(source: Source, unit_rows: int) -> list[Row]:
    units = cut_units([part.rows for part in source.parts], unit_rows)
    return [row for unit in units for row in source.read(unit)]


def reasons(rows: list[Row]) -> list[str | None]:
    """The reason each row fails for; ``None`` where it does not."""
    return [row.verdict.reason if row.verdict else None for row in rows]


def records(rows: list[Row]) -> list[Record]:
    """The records, none of which may have failed."""
    assert reasons(rows) == [None] * len(rows)
    return [row.record for row in rows]
