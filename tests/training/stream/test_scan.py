"""Plain tars: the same samples as webdataset's, and of a damaged tar those known to be whole, never a half one."""

import gzip
import io
import logging
import random
import tarfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import simplejpeg
import webdataset
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from manifests.shard import INDEX_SCHEMA, build_index, record_sample
from manifests.tar import write_tar
from stages.masks import mask_png
from tests.strategies import records
from tests.training.stream.server import QUICK, serving
from training.stream.scan import scan_tar, scan_tars
from training.stream.storage import LocalStorage, open_storage


def picture(width: int, height: int, form: str = "JPEG") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), (10, 200, 30)).save(file, form)
    return file.getvalue()


def tar_of(members: list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file.getvalue()


def triples(count: int) -> list[tuple[str, bytes]]:
    """As img2dataset writes them."""
    return [
        (f"{number:09d}.{suffix}", data)
        for number in range(count)
        for suffix, data in (("jpg", picture(16 + number, 8)), ("txt", b"a frog"), ("json", b'{"key": "%d"}' % number))
    ]


def scan(folder: Path, data: bytes) -> list[dict[str, Any]]:
    (folder / "x.tar").write_bytes(data)
    rows: list[dict[str, Any]] = scan_tar(LocalStorage(str(folder)), "x.tar").to_pylist()
    for row in rows:
        inside = data[row["offset"] : row["offset"] + row["size"]]
        assert zlib.crc32(inside) == row["crc32"]
    return rows


def test_tars_of_img2dataset_are_indexed(tmp_path: Path) -> None:
    rows = scan(tmp_path, tar_of(triples(5)))
    assert [(row["key"], row["member"]) for row in rows[:3]] == [("000000000", name) for name in ("jpg", "txt", "json")]
    assert [(row["width"], row["height"]) for row in rows if row["member"] == "jpg"] == [(16 + k, 8) for k in range(5)]
    assert all(row["width"] is None for row in rows if row["member"] != "jpg")
    assert all(row["bucket"] is None and row["subjects"] is None for row in rows)


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records(), max_size=3, unique_by=lambda record: record.key))
def test_of_our_own_tars_the_index_is_the_engines(tmp_path: Path, kept: list[Any]) -> None:
    file = io.BytesIO()
    write_tar(file, [(record.key, record_sample(record, mask_png, (1.0,)).members) for record in kept])
    (tmp_path / "x.tar").write_bytes(file.getvalue())
    found, ours = scan_tar(LocalStorage(str(tmp_path)), "x.tar"), build_index(file)
    assert found.schema.equals(INDEX_SCHEMA, check_metadata=True)
    for name in ("key", "member", "offset", "size", "crc32"):
        assert found[name].equals(ours[name]), name


NAMES = [
    "0.jpg", "dir/0.jpg", "a.b/c.jpg", "a/b.c.d.JPG", "./0.jpg", "noext", "dir.x/noext", ".hidden", "é/ü.jpg",
    "__meta__", "__meta__/0.jpg", "../../etc/passwd.jpg", "/etc/shadow.jpg", "n" * 300 + ".jpg", "d/" * 120 + "0.jpg",
    "a..b", "C:\\x.jpg",
]  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_names_become_keys_as_in_webdataset(tmp_path: Path, form: int) -> None:
    data = tar_of([(name, name.encode()) for name in NAMES], form)
    rows = scan(tmp_path, data)
    theirs = webdataset.tariterators.tar_file_expander([{"url": "x", "stream": io.BytesIO(data)}], eof_value=None)
    pairs = [webdataset.tariterators.base_plus_ext(member["fname"]) for member in theirs]
    assert [(row["key"], row["member"]) for row in rows] == [pair for pair in pairs if pair != (None, None)]
    assert not list(tmp_path.parent.rglob("passwd*"))  # names are only names


def test_only_files_are_members(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, kind in (("a", tarfile.DIRTYPE), ("a/l.jpg", tarfile.SYMTYPE), ("a/h.jpg", tarfile.LNKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("a/empty.jpg"))
        info = tarfile.TarInfo("a/fifo.jpg")
        info.type = tarfile.FIFOTYPE
        tar.addfile(info)
    assert [(row["key"], row["size"], row["width"]) for row in scan(tmp_path, file.getvalue())] == [
        ("a/empty", 0, None)
    ]


def test_a_sparse_file_has_no_bytes_of_its_own_to_point_at(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("0.jpg")
        info.pax_headers = {"GNU.sparse.map": "0,1", "GNU.sparse.size": str(1 << 50), "GNU.sparse.numblocks": "1"}
        tar.addfile(info)
        tar.addfile(tarfile.TarInfo("1.jpg"))
    assert [row["key"] for row in scan(tmp_path, file.getvalue())] == ["1"]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_sizes_come_from_the_headers(tmp_path: Path, form: str) -> None:
    suffix = {"JPEG": "jpg", "TIFF": "tif"}.get(form, form.lower())
    (row,) = scan(tmp_path, tar_of([(f"0.{suffix}", picture(31, 17, form))]))
    assert (row["width"], row["height"]) == (31, 17)


@pytest.mark.parametrize(("orientation", "size"), [(1, (31, 17)), (3, (31, 17)), (6, (17, 31)), (8, (17, 31))])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_sizes_are_of_the_upright_picture(tmp_path: Path, form: str, orientation: int, size: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new("RGB", (31, 17), (10, 200, 30)).save(file, form, exif=exif)
    (row,) = scan(tmp_path, tar_of([("0.jpg", file.getvalue())]))
    assert (row["width"], row["height"]) == size


@pytest.mark.parametrize("broken", [b"", b"\xff\xd8\xff", b"not a picture", picture(9, 9)[:30], bytes(5000)])
def test_what_is_no_picture_has_no_size(tmp_path: Path, broken: bytes) -> None:
    (row,) = scan(tmp_path, tar_of([("0.jpg", broken)]))
    assert (row["width"], row["height"], row["size"]) == (None, None, len(broken))


def test_a_decompression_bomb_is_no_error(tmp_path: Path) -> None:
    def bomb(side: int) -> bytes:
        header = side.to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
        chunk = b"IHDR" + header
        return b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d" + chunk + zlib.crc32(chunk).to_bytes(4, "big") + b"\0\0\1\0IDAT"

    rows = scan(tmp_path, tar_of([(f"{side}.png", bomb(side)) for side in (1000, 10_000, 60_000)]))
    assert [row["width"] for row in rows] == [1000, None, None]


WHOLE = tar_of(triples(4))


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE)))
@example(0)
@example(512)
@example(len(WHOLE))
def test_a_tar_cut_anywhere_gives_whole_samples_only(tmp_path: Path, length: int) -> None:
    rows = scan(tmp_path, WHOLE[:length])
    whole = scan(tmp_path, WHOLE)
    assert rows == whole[: len(rows)]
    assert len(rows) % 3 == 0
    ends = [whole[number]["offset"] + 512 + 511 for number in (2, 5, 8, 11)]
    assert len(rows) // 3 >= sum(end <= length for end in ends) - 1  # but the last, which might have gone on


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=600))
def test_a_tar_overwritten_anywhere_gives_what_its_bytes_are(tmp_path: Path, place: int, noise: bytes) -> None:
    damaged = WHOLE[:place] + noise + WHOLE[place + len(noise) :]
    rows = scan(tmp_path, damaged)  # checks that offsets and checksums hold
    assert all(row["offset"] + row["size"] <= len(damaged) for row in rows)


def test_of_damage_is_told_where_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        scan(tmp_path, WHOLE)
        assert not caplog.records
        scan(tmp_path, WHOLE[:4000])
    assert "x.tar: damaged" in caplog.text


@pytest.mark.parametrize("start", [gzip.compress(WHOLE), b"BZh9" + WHOLE, b"\x28\xb5\x2f\xfd" + WHOLE])
def test_a_compressed_tar_is_refused_with_what_to_do(tmp_path: Path, start: bytes) -> None:
    with pytest.raises(OSError, match=r"x\.tar: compressed; unpack it"):
        scan(tmp_path, start)


@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_promises_more_than_there_is_costs_nothing(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("000000002.jpg")
    info.size, info.type = 1 << 40, kind
    data = WHOLE[: WHOLE.index(b"000000002.jpg")] + info.tobuf(tarfile.GNU_FORMAT) + bytes(4096)
    assert {row["key"] for row in scan(tmp_path, data)} >= {"000000000"}


def test_many_tars_come_in_order_from_near_and_far(tmp_path: Path) -> None:
    tars = {f"{number}.tar": tar_of(triples(1 + number % 3)) for number in range(20)}
    for name, data in tars.items():
        (tmp_path / name).write_bytes(data)
    with serving() as server:
        server.files = tars
        near = list(scan_tars(LocalStorage(str(tmp_path)), sorted(tars)))
        far = list(scan_tars(open_storage(server.url, QUICK), sorted(tars)))
    assert [len(table) for table in near] == [3 * (1 + int(name[:-4]) % 3) for name in sorted(tars)]
    assert pa.concat_tables(near).equals(pa.concat_tables(far))


def test_a_sample_across_windows_is_read_as_it_is(tmp_path: Path) -> None:
    large = [(f"{number}.bin", random.Random(number).randbytes(3_000_000)) for number in range(7)]
    assert len(scan(tmp_path, tar_of(large))) == 7


def test_a_progressive_or_grey_jpeg_has_its_size(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("L", (40, 30)).save(file, "JPEG", progressive=True)
    assert simplejpeg.is_jpeg(file.getvalue())
    assert scan(tmp_path, tar_of([("0.jpeg", file.getvalue())]))[0]["width"] == 40
