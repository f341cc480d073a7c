"""Patterns, folders, and keys of copies."""

import os
from pathlib import Path

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.base import Part, SourceError
from pipeline.sources.paths import (
    FileError,
    UnsafePathError,
    distinct,
    expand,
    folder,
    inside,
    read_inside,
    size_inside,
)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working folder with ``data/b.x``, ``data/a.x``, ``data/sub/c.x``."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/sub").mkdir(parents=True)
    for number, name in enumerate(["b.x", "a.x", "sub/c.x"]):
        (tmp_path / "data" / name).write_bytes(bytes(number))
    return tmp_path / "data"


def test_patterns_become_sorted_files_named_as_they_were_given(data: Path) -> None:
    assert [(file.name, file.url, file.size) for file in expand(["data/*.x"])] == [
        ("data/a.x", str(data / "a.x"), 1),
        ("data/b.x", str(data / "b.x"), 0),
    ]
    assert [file.name for file in expand([f"{data}/*.x"])] == [f"{data}/a.x", f"{data}/b.x"]
    assert [file.name for file in expand(["data/**/*.x"])] == ["data/a.x", "data/b.x", "data/sub/c.x"]


def test_a_file_matched_twice_comes_once(data: Path) -> None:
    assert [file.name for file in expand(["data/b.x", "data/*.x", "./data/a.x"])] == ["data/a.x", "data/b.x"]


def test_a_file_whose_name_looks_like_a_pattern_is_found(data: Path) -> None:
    (data / "part[1].x").write_bytes(b"")
    assert [file.name for file in expand(["data/part[1].x"])] == ["data/part[1].x"]


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("data/*.y", "matches no file; give a file, or a pattern of files such as data/*.parquet"),
        ("data/none.x", "matches no file; give"),
        ("data", "is a folder; give a file, or a pattern of files such as data/*"),
        ("data/su*", "is a folder; give"),
    ],
)
def test_a_pattern_without_files_is_refused_by_name(data: Path, pattern: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        expand(["data/a.x", pattern])
    assert str(caught.value).startswith(f"{pattern}: {says}")


def test_unknown_storage_is_refused_by_name() -> None:
    with pytest.raises(SourceError, match="nowhere://bucket/a: cannot be listed"):
        expand(["nowhere://bucket/a"])


def test_a_name_that_is_not_utf8_is_refused(data: Path) -> None:
    try:
        Path(os.fsdecode(bytes(data) + b"/\xff.x")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    with pytest.raises(SourceError, match="rename it"):
        expand(["data/*.x"])


def test_other_storage_is_read_through_fsspec() -> None:
    with fsspec.open("memory://paths/a.x", "wb") as file:
        file.write(b"0123456789")
    (found,) = expand(["memory://paths/*.x"])
    assert (found.name, found.size, found.tail(3), found.tail(99)) == ("memory:///paths/a.x", 10, b"789", b"0123456789")
    with found.open() as file:
        assert file.read(2) == b"01"


@given(st.lists(st.sampled_from(["a" * 64, "b" * 64, "b" * 12 + "c" * 52]), max_size=6))
def test_copies_get_keys_of_their_own_and_the_first_keeps_its(digests: list[str]) -> None:
    parts = [Part(f"file{number}", 5, digest) for number, digest in enumerate(digests)]
    told_apart = distinct(parts)
    assert len({part.key(0) for part in told_apart}) == len(parts)
    assert [(part.name, part.rows) for part in told_apart] == [(part.name, part.rows) for part in parts]
    firsts = {part.key(0): part for part in reversed(parts)}
    assert set(firsts.values()) <= set(told_apart)


def test_a_name_inside_is_found_also_through_a_symlink_inside(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.jpg").write_bytes(b"abc")
    (tmp_path / "link.jpg").symlink_to("sub/a.jpg")
    root = folder(str(tmp_path))
    assert read_inside(root, "sub/a.jpg") == read_inside(root, "link.jpg") == b"abc"
    assert size_inside(root, "link.jpg") == 3


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "sub/../../secret", "out", "away/secret", "a\0b", "\ud800"]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/out").symlink_to(tmp_path / "secret")
    (tmp_path / "root/away").symlink_to(tmp_path)
    root = folder(str(tmp_path / "root"))
    with pytest.raises(UnsafePathError):
        inside(root, name)
    assert size_inside(root, name) == -1


@pytest.mark.parametrize("name", ["none", "pipe", "sub", "broken", "loop", "x" * 5000])
def test_what_is_no_file_is_an_error_and_never_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "sub").mkdir()
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "loop").symlink_to("loop")
    root = folder(str(tmp_path))
    with pytest.raises(FileError) as caught:
        read_inside(root, name)
    assert caught.value.reason == "missing_file"
    assert str(tmp_path) not in str(caught.value)
    assert size_inside(root, name) == -1


def test_a_folder_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere: no such folder"):
        folder(str(tmp_path / "nowhere"))
