"""Parquet metadata."""

import io
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from manifests.dag import ParquetSource
from pipeline.sources import parquet
from pipeline.sources.base import SourceError, Unit
from pipeline.sources.parquet import Parquet
from tests.pipeline.sources.reading import read_all, reasons, records

URLS = pa.array(["http://a/0.jpg", "http://a/1.jpg"])
BOXES = [[[2.0, 5.0, 0.1, 0.2, 0.5, 0.6, 0.9]], None]

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write columns as a Parquet file, by default ``a.parquet`` of the working folder."""
    monkeypatch.chdir(tmp_path)
    parquet._cursor.cache_clear()

    def write_columns(columns: Mapping[str, Any], name: str = "a.parquet", **options: Any) -> Path:
        pq.write_table(pa.table(dict(columns)), tmp_path / name, **options)
        return tmp_path / name

    return write_columns


def opened(*paths: str, **columns: str) -> Parquet:
    return Parquet(ParquetSource(kind="parquet", paths=list(paths) or ["a.parquet"], columns=columns))


def test_laion_rows_are_read(write: Write) -> None:
    write(
        {
            "SAMPLE_ID": pa.array([2**63 - 1, None], pa.int64()),
            "URL": URLS,
            "TEXT": ["a dog", None],
            "WIDTH": pa.array([512.0, math.nan]),
            "HEIGHT": pa.array([640, 0], pa.int32()),
            "NSFW": ["UNLIKELY", "NSFW"],
            "similarity": pa.array([0.25, math.nan], pa.float32()),
            "punsafe": [0.5, math.inf],
            "pwatermark": [0.75, None],
            "AESTHETIC_SCORE": [6.5, 5.0],
        }
    )
    source = opened()
    full, sparse = records(read_all(source))
    assert (full.source_id, full.url, full.alt_text) == (str(2**63 - 1), "http://a/0.jpg", "a dog")
    assert (full.stated_width, full.stated_height) == (512, 640)
    assert (full.similarity, full.nsfw, full.watermark, full.aesthetic) == (0.25, 0.5, 0.75, 6.5)
    assert (sparse.source_id, sparse.alt_text, sparse.stated_width, sparse.stated_height) == (None,) * 4
    assert (sparse.similarity, sparse.nsfw, sparse.watermark, sparse.aesthetic) == (None, None, None, 5.0)
    assert source.gives == {
        *("source_id", "url", "alt_text", "stated_width", "stated_height"),
        *("similarity", "nsfw", "watermark", "aesthetic"),
    }


def test_grit_rows_bring_their_boxes(write: Write) -> None:
    write({"url": URLS, "caption": ["a dog here"] * 2, "noun_chunks": BOXES, "ref_exps": pa.nulls(2)})
    first, second = records(read_all(opened()))
    assert [(annotation.phrase, annotation.x0) for annotation in first.annotations] == [("dog", 0.1)]
    assert second.annotations == ()


def test_what_no_column_says_is_not_given(write: Write) -> None:
    write({"url": URLS, "NSFW": ["UNLIKELY", "NSFW"]})
    assert opened().gives == {"url"}


@pytest.mark.parametrize("url", [None, "", "  "])
def test_a_row_without_url_fails_and_the_others_do_not(write: Write, url: str | None) -> None:
    write({"URL": ["http://a/0.jpg", url], "TEXT": ["a", "b"]})
    rows = read_all(opened())
    assert reasons(rows) == [None, "no_url"]
    assert rows[1].record.alt_text == "b"


TEXT_TYPES = [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.binary()]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_of_every_type_is_read_and_what_is_no_utf8_fails_its_row(write: Write, kind: pa.DataType) -> None:
    values = pa.array([b"a caf\xc3\xa9", b"broken \xff", None], pa.binary())
    text = values.cast(kind, safe=False) if not pa.types.is_dictionary(kind) else None
    write({"URL": ["http://a"] * 3, "TEXT": pa.array(["a café", "whole", None], kind) if text is None else text})
    rows = read_all(opened())
    assert [row.record.alt_text for row in rows][::2] == ["a café", None]
    if text is not None:
        assert reasons(rows) == [None, "bad_text", None]
        assert rows[1].record.alt_text == "broken \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()], ids=str)
def test_integer_ids_never_go_through_float(write: Write, kind: pa.DataType) -> None:
    write({"url": URLS, "id": pa.array([2**63 - 1, 2**53 + 1], kind)})
    assert [record.source_id for record in records(read_all(opened()))] == [str(2**63 - 1), str(2**53 + 1)]


def test_the_manifest_may_name_columns(write: Write) -> None:
    write({"link": URLS, "TEXT": ["a", "b"], "better": ["c", "d"], "chunks": [[[0.0, 1.0, 0, 0, 1, 1]], []]})
    first, second = records(read_all(opened(url="link", alt_text="better", annotations="chunks")))
    assert (first.alt_text, first.annotations[0].phrase, second.url) == ("c", "c", "http://a/1.jpg")


def refused(*needles: str, paths: list[str] | None = None, **columns: str) -> None:
    with pytest.raises(SourceError) as caught:
        opened(*(paths or []), **columns)
    for needle in needles:
        assert needle in str(caught.value)


def test_a_field_that_does_not_exist_is_refused_with_those_that_do(write: Write) -> None:
    write({"URL": URLS})
    refused("'key'", "source_id, url, alt_text", key="URL")


def test_a_column_that_does_not_exist_is_refused_with_those_that_do(write: Write) -> None:
    write({"URL": URLS, "TEXT": ["a", "b"]})
    refused("a.parquet", "'words'", "alt_text", "URL, TEXT", alt_text="words")


def test_a_file_without_url_column_is_refused_with_its_columns(write: Write) -> None:
    write({"link": URLS, "TEXT": ["a", "b"]})
    refused("a.parquet", "link, TEXT", "columns: {url: NAME}")


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("URL", [1, 2]),
        ("TEXT", [1.5, 2.5]),
        ("WIDTH", ["512", "640"]),
        ("aesthetic", [True, False]),
        ("id", [{"a": 1}] * 2),
        ("noun_chunks", ["[]", "[]"]),
    ],
)
def test_a_column_of_the_wrong_type_is_refused_by_name_and_type(write: Write, name: str, values: list[Any]) -> None:
    write({"URL": URLS, name: values})
    refused("a.parquet", f"column {name!r} holds {pa.array(values).type}")


def test_a_column_that_is_there_twice_is_refused(write: Write, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([URLS, URLS], ["url", "url"]), tmp_path / "a.parquet")
    refused("2 columns 'url'")


def test_no_rows_at_all_are_refused_but_an_empty_file_among_others_is_fine(write: Write) -> None:
    write({"x": pa.array([], pa.null())}, "empty.parquet")
    refused("empty.parquet", "no rows", paths=["empty.parquet"])
    write({"URL": URLS})
    assert len(read_all(opened("*.parquet"))) == 2


@pytest.mark.parametrize("keep", [0, 3, 11, 100, -1])
def test_a_file_that_was_cut_off_is_refused_by_name(write: Write, keep: int) -> None:
    path = write({"URL": URLS})
    path.write_bytes(path.read_bytes()[:keep])
    refused("a.parquet", "no Parquet file, or was cut off")


def test_a_damaged_footer_is_refused_by_name(write: Write) -> None:
    path = write({"URL": URLS})
    data = path.read_bytes()
    path.write_bytes(data[:-40] + b"\xff" * 32 + data[-8:])
    refused("a.parquet", "footer is damaged")


def test_a_file_changed_after_planning_is_an_error_when_read(write: Write) -> None:
    path = write({"URL": URLS})
    source = opened()
    write({"URL": URLS, "TEXT": ["a", "b"]})
    with pytest.raises(SourceError, match="has changed"):
        source.read(Unit(0, 0, 0, 2))
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read"):
        source.read(Unit(0, 0, 0, 2))


def test_the_fingerprint_follows_the_content_and_not_the_place_or_time(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({"URL": URLS})
    source = opened()
    (tmp_path / "elsewhere").mkdir()
    shutil.copyfile(path, tmp_path / "elsewhere/a.parquet")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert opened().fingerprint == source.fingerprint
    assert read_all(opened()) == read_all(source)
    pq.write_table(pa.table({"URL": ["http://a/0.jpg", "http://a/2.jpg"]}), "a.parquet")
    assert opened().fingerprint != source.fingerprint


def test_copies_of_a_file_keep_their_keys_apart(write: Write, tmp_path: Path) -> None:
    path = write({"URL": URLS})
    alone = opened()
    shutil.copyfile(path, tmp_path / "b.parquet")
    both = opened("*.parquet")
    assert len({row.record.key for row in read_all(both)}) == 4
    assert both.parts[0] == alone.parts[0]


class Counting(MemoryFileSystem):
    """Files in memory that count the bytes read of them."""

    protocol = "counting"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012
    bytes_read = 0

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        file = super()._open(path, mode, **options)
        if mode != "rb":
            return file
        return _CountingFile(file.getvalue())


class _CountingFile(io.BytesIO):
    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        Counting.bytes_read += len(data)
        return data


@pytest.fixture(scope="module")
def many_rows() -> int:
    """Bytes of ``counting://many.parquet``: 100,000 rows in 500 row groups, two columns, one of them not needed."""
    fsspec.register_implementation("counting", Counting, clobber=True)
    count = 100_000
    sink = io.BytesIO()
    table = pa.table({"url": [f"http://a/{i}" for i in range(count)], "other": [f"{i:030d}" for i in range(count)]})
    pq.write_table(table, sink, row_group_size=200, compression="none", use_dictionary=False)
    with fsspec.open("counting://many.parquet", "wb") as file:
        file.write(sink.getvalue())
    return len(sink.getvalue())


def bytes_read(work: Callable[[], Any]) -> int:
    Counting.bytes_read = 0
    work()
    return Counting.bytes_read


def test_planning_reads_the_footer_and_nothing_else(many_rows: int) -> None:
    path = "counting://many.parquet"
    (file,) = parquet.expand([path])
    footer = len(parquet._footer(file))
    assert footer > parquet._TAIL_BYTES
    assert bytes_read(lambda: opened(path)) <= footer + parquet._TAIL_BYTES < many_rows / 10
    assert opened(path).parts[0].rows == 100_000


def test_a_unit_reads_only_its_row_group_and_the_columns_it_needs(many_rows: int) -> None:
    source = opened("counting://many.parquet")
    parquet._cursor.cache_clear()
    unit = Unit(0, 0, 70_100, 70_200)
    assert bytes_read(lambda: source.read(unit)) < many_rows / 20
    assert source.read(unit)[0].record.url == "http://a/70100"


def test_consecutive_units_read_nothing_twice(many_rows: int) -> None:
    source = opened("counting://many.parquet")
    units = [Unit(number, 0, start, start + 250) for number, start in enumerate(range(0, 8000, 250))]
    parquet._cursor.cache_clear()
    together = bytes_read(lambda: [source.read(unit) for unit in units])
    parquet._cursor.cache_clear()
    assert together <= bytes_read(lambda: source.read(Unit(0, 0, 0, 8000)))
