import hashlib
from collections import Counter
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from manifests.dag import ParquetSource, read_manifest
from pipeline.demo.entry import GOOD, Entry
from pipeline.demo.faults import FAULTS
from pipeline.demo.rows import FILES, SCHEMA, build
from pipeline.demo.server import PICTURES
from stages.base import Context
from stages.decode import Decode, DecodeIn, DecodeOut, DecodeParams
from tests.pipeline.demo.conftest import PORT

ORIENTATION = 274
DECODE = Decode.load(DecodeParams(), Context())


def read(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(path) for path in sorted(folder.glob("*.parquet")))


def by_kind(table: list[Entry], kind: str) -> Entry:
    return next(entry for entry in table if entry.kind == kind)


def test_there_are_some_hundreds_of_good_rows_and_every_fault_once_at_its_place(table: list[Entry]) -> None:
    counts = Counter(entry.kind for entry in table)
    assert 290 <= counts.pop(GOOD) <= 330
    assert counts == Counter(kind for kind, _ in FAULTS)
    assert [entry.kind for entry in table if entry.kind != GOOD] == [kind for kind, _ in FAULTS]


def test_faults_are_spread_over_the_table(table: list[Entry]) -> None:
    places = [number for number, entry in enumerate(table) if entry.kind != GOOD]
    assert max(b - a for a, b in pairwise(places)) < 20
    assert places[0] < 20
    assert len(table) - places[-1] < 40


def test_every_good_picture_decodes_at_its_stated_size(table: list[Entry]) -> None:
    good = [entry for entry in table if entry.kind == GOOD]
    results = DECODE.process([DecodeIn(key="", original=entry.file or b"") for entry in good])
    for entry, result in zip(good, results, strict=True):
        assert isinstance(result, DecodeOut), (entry.path, result)
        assert (result.original_width, result.original_height) == (entry.width, entry.height), entry.path


def test_no_two_good_pictures_have_equal_bytes(table: list[Entry]) -> None:
    good = [entry for entry in table if entry.kind == GOOD]
    assert len({hashlib.sha256(entry.file or b"").digest() for entry in good}) == len(good)
    assert len({entry.path for entry in good}) == len(good)


def test_the_bomb_is_a_small_file(table: list[Entry]) -> None:
    assert len(by_kind(table, "bomb").file or b"") < 100_000


def test_pictures_come_in_many_encodings(table: list[Entry]) -> None:
    images = [Image.open(BytesIO(entry.file or b"")) for entry in table if entry.kind == GOOD]
    modes = {(image.format, image.mode) for image in images}
    assert modes >= {("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "RGBA")}
    assert modes >= {("GIF", "P"), ("WEBP", "RGB")}
    assert {image.getexif().get(ORIENTATION, 1) for image in images} == {1, 6}
    assert sum(image.format == "JPEG" for image in images) > len(images) / 2


def test_duplicates_share_a_unit_with_what_they_repeat(built: Path, table: list[Entry]) -> None:
    source = read_manifest(Path("manifests/demo.yaml")).manifest.source
    assert isinstance(source, ParquetSource)
    places = [
        (path.name, row // source.unit_rows)
        for path in sorted(built.glob("*.parquet"))
        for row in range(pq.read_metadata(path).num_rows)
    ]
    for kind in ("same_url", "same_bytes"):
        number = table.index(by_kind(table, kind))
        assert places[number] == places[number - 1]
    same_url, same_bytes = by_kind(table, "same_url"), by_kind(table, "same_bytes")
    assert same_url.path == table[table.index(same_url) - 1].path
    assert same_bytes.file == table[table.index(same_bytes) - 1].file


def test_the_table_has_the_columns_of_grit(built: Path) -> None:
    assert len(list(built.glob("*.parquet"))) == FILES
    for path in built.glob("*.parquet"):
        assert pq.read_schema(path).equals(SCHEMA)
        assert pq.read_metadata(path).num_row_groups > 1


def test_noun_chunks_point_into_the_caption_and_the_picture(built: Path) -> None:
    rows = read(built).to_pylist()
    for row in rows:
        assert len(row["noun_chunks"]) == len(row["ref_exps"])
        for start, end, x0, y0, x1, y1, score in [*row["noun_chunks"], *row["ref_exps"]]:
            text = row["caption"][int(start) : int(end)]
            assert text == text.strip() != ""
            assert 0 <= x0 < x1 <= 1
            assert 0 <= y0 < y1 <= 1
            assert score == 1
    described = [row for row in rows if row["noun_chunks"] != row["ref_exps"]]
    assert len(described) > len(rows) // 4


def test_identifiers_are_integers_that_no_float_can_hold(built: Path) -> None:
    ids = read(built)["id"].to_pylist()
    assert len(set(ids)) == len(ids)
    assert all(int(float(number)) != number for number in ids)


def test_some_rows_lack_a_url_or_a_caption(built: Path) -> None:
    rows = read(built).to_pylist()
    assert [row["url"] for row in rows].count(None) == 1
    assert [row["caption"] for row in rows].count(None) == 1
    assert sum(row["caption"] is not None and not row["caption"].strip() for row in rows) == 1


def test_building_again_gives_equal_bytes_and_mends_what_is_damaged(built: Path) -> None:
    files = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in built.rglob("*") if path.is_file()}
    damaged = min(built.glob(f"{PICTURES}/cat/*"))
    damaged.write_bytes(files[damaged][0][:100])
    build(built, PORT)
    again = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in built.rglob("*") if path.is_file()}
    assert again.keys() == files.keys()
    assert again.pop(damaged)[0] == files.pop(damaged)[0]
    assert again == files, "files that were right have been written again"


def test_another_port_changes_urls_and_nothing_else(table: list[Entry]) -> None:
    for entry in table:
        one, other = entry.url(1000), entry.url(2000)
        assert one == other or (one or "").replace(":1000/", ":2000/") == other
