"""Plain tars read once: the samples that webdataset sees, and of damaged ones the whole samples only."""

import io
import logging
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
import webdataset as wds
from PIL import Image

from training.stream.scan import scan_tar, scan_tars
from training.stream.storage import LocalStorage


def picture(size: tuple[int, int] = (24, 16)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "teal").save(file, "jpeg")
    return file.getvalue()


def write(path: Path, members: Sequence[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(number: int) -> list[tuple[str, bytes]]:
    return [
        (f"{number:09d}.jpg", picture()),
        (f"{number:09d}.json", b'{"caption": "a wall"}'),
        (f"{number:09d}.txt", b"a wall"),
    ]


def read(path: Path) -> dict[str, dict[str, bytes]]:
    """What the index leads to."""
    table, data = scan_tar(LocalStorage(str(path.parent)), path.name), path.read_bytes()
    found: dict[str, dict[str, bytes]] = {}
    for row in table.to_pylist():
        found.setdefault(row["key"], {})[row["member"]] = data[row["offset"] : row["offset"] + row["size"]]
    return found


def read_webdataset(path: Path) -> dict[str, dict[str, bytes]]:
    with path.open("rb") as file:  # its own opener leaves closing to the garbage collector
        samples = list(wds.tariterators.tar_file_expander([{"stream": file, "url": str(path)}]))
        grouped = list(wds.tariterators.group_by_keys(samples))
    return {s["__key__"]: {k: v for k, v in s.items() if not k.startswith("__")} for s in grouped}


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_samples_are_those_that_webdataset_reads(tmp_path: Path, form: int) -> None:
    long = "folder.with.dots/" + "n" * 150 + "/" + "k" * 120
    members = [
        *sample(12),
        ("a/b.jpg", picture()),
        ("a/b.cls.txt", b""),
        (f"{long}.jpg", picture()),
        (f"{long}.txt", "größe".encode()),
        ("__meta__/x.json", b"{}"),
        ("README", b"nothing"),
        ("ключ.txt", b"text"),
    ]
    path = write(tmp_path / "a.tar", members, form)
    found = read(path)
    assert found == read_webdataset(path)
    assert found["000000012"]["txt"] == b"a wall" and found["a/b"]["cls.txt"] == b"" and f"{long}" in found


def test_pictures_have_their_sizes_and_what_is_none_has_not(tmp_path: Path) -> None:
    huge = io.BytesIO()
    Image.new("1", (20_000, 9_000)).save(huge, "png")
    members = [("a.jpg", picture((30, 20))), ("b.jpg", b"no picture"), ("c.png", b""), ("d.png", huge.getvalue())]
    table = scan_tar(LocalStorage(str(tmp_path)), write(tmp_path / "a.tar", members).name)
    assert list(zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)) == [
        (30, 20),
        *[(None, None)] * 3,
    ]


def test_of_a_tar_cut_anywhere_no_partial_sample_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = write(tmp_path / "whole.tar", [member for n in range(4) for member in sample(n)])
    data, samples = whole.read_bytes(), read(whole)
    with tarfile.open(whole) as tar:
        infos = tar.getmembers()
    edges = {place for info in infos for place in (info.offset, info.offset_data, info.offset_data + info.size)}
    end = infos[-1].offset_data + 512
    for place in sorted({min(edge + step, end) for edge in edges for step in (-1, 0, 1, 200, 511)} - {-1}):
        caplog.clear()
        (tmp_path / "cut.tar").write_bytes(data[:place])
        with caplog.at_level(logging.WARNING):
            kept = read(tmp_path / "cut.tar")
        assert kept == {key: samples[key] for key in kept}
        begun = sum(info.offset_data < place for info in infos)  # members whose names are known
        assert len(kept) >= max(0, begun - 1) // 3
        assert "damaged" in caplog.text


def test_a_tar_with_a_broken_header_ends_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.tar", [member for n in range(3) for member in sample(n)])
    with tarfile.open(path) as tar:
        place = tar.getmembers()[4].offset
    data = bytearray(path.read_bytes())
    data[place + 100 : place + 110] = b"\xff" * 10
    path.write_bytes(data)
    assert list(read(path)) == ["000000000"] and "damaged" in caplog.text


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_compressed_tar_is_refused_with_the_remedy(tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as tar:  # type: ignore[call-overload]
        tar.addfile(tarfile.TarInfo("a.txt"))
    with pytest.raises(OSError, match="compressed; unpack it"):
        scan_tar(LocalStorage(str(tmp_path)), "a.tar")


def test_many_tars_come_in_order(tmp_path: Path) -> None:
    names = [write(tmp_path / f"{n:02d}.tar", sample(n)).name for n in range(20)]
    tables = list(scan_tars(LocalStorage(str(tmp_path)), names))
    assert [table["key"][0].as_py() for table in tables] == [f"{n:09d}" for n in range(20)]


def test_an_empty_tar_has_no_samples(tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.tar", [])) == {}
