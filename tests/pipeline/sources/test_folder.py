"""Folders of images."""

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from manifests.dag import FolderSource
from pipeline.sources.base import SourceError, Unit
from pipeline.sources.folder import Folder
from tests.pipeline.sources.reading import read_all, reasons, records


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``photos`` in the working folder: two pictures, one with a caption."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos/sub").mkdir(parents=True)
    (tmp_path / "photos/b.JPG").write_bytes(b"picture b")
    (tmp_path / "photos/sub/a.webp").write_bytes(b"picture a")
    (tmp_path / "photos/sub/a.txt").write_bytes(b"\xef\xbb\xbfa caf\xc3\xa9\r\n")
    return tmp_path / "photos"


def opened(captions: str | None = None) -> Folder:
    return Folder(FolderSource(kind="folder", path="photos", captions=captions))


def write_lines(*lines: Any) -> None:
    Path("captions.jsonl").write_text("\n".join(json.dumps(line) for line in lines))


def test_rows_are_images_by_name_with_the_text_beside_them() -> None:
    source = opened()
    b, a = records(read_all(source))
    assert (b.source, b.source_id, b.alt_text, b.original) == ("photos", "b.JPG", None, b"picture b")
    assert (a.source_id, a.alt_text) == ("sub/a.webp", "a café")
    assert a.sha256 == hashlib.sha256(b"picture a").hexdigest()
    assert source.gives == {"source_id", "alt_text", "original", "sha256"}


def test_images_of_a_sub_folder_are_a_group_where_asked() -> None:
    source = Folder(FolderSource(kind="folder", path="photos", groups=True))
    assert [record.group for record in records(read_all(source))] == [None, "sub"]
    assert "group" in source.gives and "group" not in opened().gives
    assert [record.group for record in records(read_all(opened()))] == [None, None]


def test_without_any_caption_none_is_given(photos: Path) -> None:
    (photos / "sub/a.txt").write_text(" \n")
    assert opened().gives == {"source_id", "original", "sha256"}
    assert [record.alt_text for record in records(read_all(opened()))] == [None, None]


def test_a_caption_file_that_is_no_utf8_fails_its_row(photos: Path) -> None:
    (photos / "sub/a.txt").write_bytes(b"broken \xff")
    assert reasons(read_all(opened())) == [None, "bad_text"]


def test_hidden_files_and_what_is_no_image_are_skipped(photos: Path) -> None:
    (photos / ".git").mkdir()
    for name in (".git/c.jpg", ".c.jpg", "notes.md", "jpg"):
        (photos / name).write_bytes(b"x")
    assert len(read_all(opened())) == 2


def test_symlinks_that_leave_the_folder_fail_and_those_that_stay_do_not(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (photos / "c.jpg").symlink_to(tmp_path / "secret.jpg")
    (photos / "d.jpg").symlink_to("b.JPG")
    (photos / "e.jpg").symlink_to("nothing.jpg")
    (photos / "b.txt").symlink_to(tmp_path / "secret.jpg")
    (photos / "loop").symlink_to(photos)
    rows = read_all(opened())
    assert [row.record.source_id for row in rows] == ["b.JPG", "c.jpg", "d.jpg", "e.jpg", "sub/a.webp"]
    assert reasons(rows) == ["unsafe_path", "unsafe_path", None, "missing_file", None]
    assert b"secret" not in {row.record.original for row in rows}


def test_a_name_that_is_not_utf8_is_read_and_shown_with_marks(photos: Path) -> None:
    try:
        Path(os.fsdecode(bytes(photos) + b"/z\xff.jpg")).write_bytes(b"picture z")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    record = records(read_all(opened()))[-1]
    assert (record.source_id, record.original) == ("z?.jpg", b"picture z")


def test_captions_may_come_from_a_jsonl_file() -> None:
    write_lines(
        {"file": "./b.JPG", "caption": "a line\u2028in two", "more": 1}, {"file": "sub/a.webp", "caption": None}
    )
    b, a = records(read_all(opened("captions.jsonl")))
    assert (b.alt_text, a.alt_text) == ("a line\u2028in two", None)


def test_files_the_jsonl_names_are_rows_whether_they_are_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    write_lines(*({"file": name, "caption": "x"} for name in ("gone.jpg", "../secret.jpg", "/etc/passwd", "b.JPG")))
    rows = read_all(opened("captions.jsonl"))
    assert [row.record.source_id for row in rows] == ["../secret.jpg", "/etc/passwd", "b.JPG", "gone.jpg", "sub/a.webp"]
    assert reasons(rows) == ["unsafe_path", "unsafe_path", None, "missing_file", None]


def test_captions_that_are_no_unicode_fail_their_rows() -> None:
    Path("captions.jsonl").write_bytes(
        b'{"file": "b.JPG", "caption": "\xff"}\n\n{"file": "sub/a.webp", "caption": "\\ud800"}\n'
    )
    assert reasons(read_all(opened("captions.jsonl"))) == ["bad_text", "bad_text"]


@pytest.mark.parametrize(
    ("lines", "needle"),
    [
        (["{"], r"captions\.jsonl:1: not JSON"),
        (["[" * 100_000], r"captions\.jsonl:1: not JSON"),
        (["", "[]"], r"captions\.jsonl:2: a line is"),
        (['{"file": 1, "caption": "x"}'], r"captions\.jsonl:1: a line is"),
        (['{"file": "a", "caption": 1}'], r"captions\.jsonl:1: a line is"),
        (['{"file": "a"}', '{"file": "./a"}'], r"captions\.jsonl:2: 'a' has a caption already, in line 1"),
    ],
)
def test_lines_that_are_wrong_are_refused_by_number(lines: list[str], needle: str) -> None:
    Path("captions.jsonl").write_text("\n".join(lines))
    with pytest.raises(SourceError, match=needle):
        opened("captions.jsonl")


def test_what_is_not_there_is_refused_by_name(photos: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.jsonl: cannot be read"):
        opened("none.jsonl")
    shutil.rmtree(photos)
    with pytest.raises(SourceError, match="photos: no such folder"):
        opened()
    photos.mkdir()
    with pytest.raises(SourceError, match=r"photos: no images in it; those are \.avif"):
        opened()


def test_the_fingerprint_follows_names_sizes_and_captions_and_not_place_or_time(
    photos: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = [opened().fingerprint]
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(photos, elsewhere / "photos", copy_function=shutil.copyfile)
    monkeypatch.chdir(elsewhere)
    assert opened().fingerprint == seen[0]
    Path("photos/sub/a.txt").write_text("a cafe")
    seen.append(opened().fingerprint)
    Path("photos/b.JPG").write_bytes(b"another picture")
    seen.append(opened().fingerprint)
    Path("photos/b.JPG").rename("photos/c.JPG")
    seen.append(opened().fingerprint)
    assert len(set(seen)) == 4


def test_a_folder_changed_after_planning_is_an_error_when_read(photos: Path) -> None:
    source = opened()
    (photos / "c.jpg").write_bytes(b"new")
    with pytest.raises(SourceError, match="has changed"):
        source.read(Unit(0, 0, 0, 2))


def test_what_goes_to_workers_stays_small(photos: Path) -> None:
    for number in range(300):
        (photos / f"picture-{number}.jpg").write_bytes(b"x")
    assert len(pickle.dumps(opened())) < 2000


def test_what_changes_or_vanishes_during_a_run_stops_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"picture")
        (tmp_path / f"{number}.txt").write_text("a cup of coffee")
    source = Folder(FolderSource(kind="folder", path=str(tmp_path)))
    assert source.read(Unit(0, 0, 0, 1))[0].record.alt_text == "a cup of coffee"
    (tmp_path / "0.txt").write_text("a cup of toffee")
    (tmp_path / "1.png").unlink()
    (tmp_path / "2.png").write_bytes(b"another")
    (tmp_path / "2.png").write_bytes(b"a longer picture")
    for number in range(3):
        with pytest.raises(SourceError, match="has changed since the run was planned"):
            source.read(Unit(0, 0, number, number + 1))
