"""Row groups: what is damaged costs no row that is not."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.dag import ParquetSource
from pipeline.sources import parquet, row_groups
from pipeline.sources.base import SourceError, Unit
from pipeline.sources.parquet import Parquet
from pipeline.sources.paths import File, expand
from tests.pipeline.sources.reading import read_all, reasons


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 60),
    group_rows=st.integers(1, 25),
    slab_rows=st.integers(1, 30),
    ranges=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 60)), min_size=1, max_size=8),
)
def test_units_in_any_order_read_the_same_rows(
    rows: int, group_rows: int, slab_rows: int, ranges: list[tuple[int, int]]
) -> None:
    sink = io.BytesIO()
    pq.write_table(pa.table({"n": list(range(rows))}), sink, row_group_size=group_rows)
    file = fsspec.open("memory://cursor/a.parquet", "wb")
    with file as out:
        out.write(sink.getvalue())
    (found,) = expand(["memory://cursor/a.parquet"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "_SLAB_ROWS", slab_rows)
        cursor = row_groups.Cursor(found, pq.read_metadata(sink), ["n"])
        for start, count in ranges:
            start, stop = min(start, rows), min(start + count, rows)
            assert cursor.take(start, stop) == row_groups.Rows({"n": list(range(start, stop))})


ROWS, GROUP_ROWS = 1000, 100


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of ten row groups, whose pages have checksums."""
    monkeypatch.chdir(tmp_path)
    parquet._cursor.cache_clear()
    columns = {"URL": [f"http://a/{i}" for i in range(ROWS)], "TEXT": [f"picture {i}" for i in range(ROWS)]}
    options = {"compression": "zstd", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(pa.table(columns), "a.parquet", row_group_size=GROUP_ROWS, **options)
    return tmp_path / "a.parquet"


def damage(path: Path, group: int, column: int = 0, at: int = 60) -> None:
    chunk = pq.read_metadata(path).row_group(group).column(column)
    data = bytearray(path.read_bytes())
    place = chunk.data_page_offset + at
    data[place : place + 20] = bytes(byte ^ 0xFF for byte in data[place : place + 20])
    path.write_bytes(data)


def opened() -> Parquet:
    return Parquet(ParquetSource(kind="parquet", paths=["a.parquet"]))


def damaged(rows: Sequence[Any]) -> list[int]:
    return [number for number, reason in enumerate(reasons(rows)) if reason == "unreadable_row_group"]


@pytest.mark.parametrize("column", [0, 1])
def test_a_damaged_row_group_fails_its_rows_and_no_others(path: Path, column: int) -> None:
    whole = read_all(opened())
    damage(path, 4, column)
    parquet._cursor.cache_clear()
    rows = read_all(opened())
    assert damaged(rows) == list(range(400, 500))
    assert [row.record.url for row in rows if row.verdict is None] == [
        row.record.url for n, row in enumerate(whole) if not 400 <= n < 500
    ]
    verdict = rows[450].verdict
    assert verdict is not None and verdict.kind == "failed" and verdict.node == "source"
    assert "a.parquet: rows 400 to 499 cannot be read" in verdict.message


def test_several_damaged_row_groups_the_first_and_the_last_among_them(path: Path) -> None:
    for group in (0, 5, 9):
        damage(path, group)
    assert damaged(read_all(opened())) == [*range(100), *range(500, 600), *range(900, 1000)]


def test_a_damaged_page_header_and_a_chunk_of_zeros_fail_their_rows(path: Path) -> None:
    damage(path, 2, at=0)
    chunk = pq.read_metadata(path).row_group(7).column(1)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset : chunk.data_page_offset + chunk.total_compressed_size] = bytes(
        chunk.total_compressed_size
    )
    path.write_bytes(data)
    assert damaged(read_all(opened())) == [*range(200, 300), *range(700, 800)]


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 999), st.integers(1, 400)), min_size=1, max_size=6))
def test_which_rows_are_damaged_does_not_depend_on_where_reading_began(ranges: list[tuple[int, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_groups, "_SLAB_ROWS", 30)
        file, data = _damaged_in_memory()
        cursor = row_groups.Cursor(file, pq.read_metadata(io.BytesIO(data)), ["n"])
        for start, count in ranges:
            stop = min(start + count, ROWS)
            rows = cursor.take(start, stop)
            bad = {number for number in range(start, stop) if 300 <= number < 400}
            assert {start + place for place in rows.damage} == bad
            assert rows.values["n"] == [None if n in bad else n for n in range(start, stop)]


def _damaged_in_memory() -> tuple[File, bytes]:
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"n": list(range(ROWS))}),
        sink,
        row_group_size=GROUP_ROWS,
        use_dictionary=False,
        write_page_checksum=True,
    )
    data = bytearray(sink.getvalue())
    chunk = pq.read_metadata(io.BytesIO(data)).row_group(3).column(0)
    data[chunk.data_page_offset + chunk.total_compressed_size - 9] ^= 1
    with fsspec.open("memory://damaged/a.parquet", "wb") as out:
        out.write(bytes(data))
    (file,) = expand(["memory://damaged/a.parquet"])
    return file, bytes(data)


class Failing(io.BytesIO):
    """A file of a disk that fails from some byte on."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > 2000:
            raise OSError(5, "Input/output error")
        return super().read(size)


def test_storage_that_fails_is_an_error_and_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, data = opened(), path.read_bytes()
    monkeypatch.setattr(File, "open", lambda self: Failing(data))
    assert damaged(source.read(Unit(0, 0, 0, 10))) == []
    with pytest.raises(SourceError, match=r"a\.parquet: cannot be read: .*Input/output error"):
        source.read(Unit(0, 0, 900, 910))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(4, 10**6), st.integers(0, 255)), min_size=1, max_size=8))
def test_whatever_bytes_change_rows_are_counted_and_whole_row_groups_are_read(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    columns = {"URL": [f"http://a/{i}" for i in range(200)], "TEXT": ["some words"] * 200}
    pq.write_table(pa.table(columns), folder / "a.parquet", row_group_size=50, write_page_checksum=True)
    metadata = pq.read_metadata(folder / "a.parquet")
    end = metadata.row_group(3).column(0).data_page_offset
    data = bytearray((folder / "a.parquet").read_bytes())
    for place, value in changes:
        data[4 + place % (end - 4)] = value
    (folder / "a.parquet").write_bytes(data)
    rows = read_all(Parquet(ParquetSource(kind="parquet", paths=[str(folder / "a.parquet")])))
    assert len(rows) == 200
    for row in rows:
        assert row.verdict is not None or row.record.url == f"http://a/{row.record.row}"
