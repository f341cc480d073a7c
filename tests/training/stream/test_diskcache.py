"""Disk cache: the bytes of the remote file, once; bounded; whole after any kill; done without if the disk refuses."""

import errno
import fcntl
import logging
import multiprocessing
import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.training.stream.server import QUICK, FileServer, serving
from training.stream import diskcache
from training.stream.diskcache import CachedStorage, ChunkStore
from training.stream.storage import ShortReadError, open_storage

DATA = random.Random(0).randbytes(10_500)
LIMIT, CHUNK = 400_000, 20_000
_spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(diskcache, "_CHUNK_BYTES", 1000)
    with serving() as server:
        server.files = {"a.tar": DATA, "b.tar": DATA[::-1]}
        yield server


def cached(server: FileServer, folder: Path, limit: int = 10**6) -> CachedStorage:
    return CachedStorage(open_storage(server.url, QUICK), folder, limit)


def chunks(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".") and path.suffix != ".tmp"]


def bytes_in(folder: Path) -> int:
    """What the files take at one moment: with the lock nobody takes or frees space, but files get their names."""
    sizes: dict[int, int] = {}
    with (folder / ".used").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                stat = path.stat()
                sizes[stat.st_ino] = 0 if path.name.startswith(".") else stat.st_size
    return sum(sizes.values())


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ends=st.tuples(st.integers(0, len(DATA)), st.integers(0, len(DATA))), name=st.sampled_from(["a.tar", "b.tar"]))
def test_ranges_are_the_remote_files(server: FileServer, tmp_path: Path, ends: tuple[int, int], name: str) -> None:
    storage = cached(server, tmp_path)
    assert storage.read_range(name, min(ends), max(ends)) == server.files[name][min(ends) : max(ends)]


def test_what_was_read_is_not_asked_for_again(server: FileServer, tmp_path: Path) -> None:
    cached(server, tmp_path).read_range("a.tar", 1500, 4500)
    assert server.ranges == [(1000, 5000)]
    again = cached(server, tmp_path)
    assert again.read_range("a.tar", 1000, 5000) == DATA[1000:5000]
    assert server.ranges == [(1000, 5000)]
    assert again.read_range("a.tar", 500, 6500) == DATA[500:6500]
    assert server.ranges[1:] == [(0, 1000), (5000, 7000)]


def test_a_file_that_was_replaced_is_read_anew(server: FileServer, tmp_path: Path) -> None:
    cached(server, tmp_path).read_range("a.tar", 0, 2000)
    server.files["a.tar"] = DATA[::-1]
    assert cached(server, tmp_path).read_range("a.tar", 0, 2000) == DATA[::-1][:2000]


def test_the_end_of_a_file_is_told_as_without_a_cache(server: FileServer, tmp_path: Path) -> None:
    storage = cached(server, tmp_path)
    with pytest.raises(ShortReadError) as caught:
        storage.read_range("a.tar", 10_000, 11_000)
    assert caught.value.got == 500
    with pytest.raises(FileNotFoundError):
        storage.read_range("c.tar", 0, 10)


def test_a_chunk_cut_short_is_fetched_again(server: FileServer, tmp_path: Path) -> None:
    cached(server, tmp_path).read_range("a.tar", 0, 1000)
    (chunk,) = chunks(tmp_path)
    os.truncate(chunk, 700)
    assert cached(server, tmp_path).read_range("a.tar", 0, 500) == DATA[:500]
    assert chunk.stat().st_size == 1000


def test_a_full_disk_is_warned_of_once_and_read_past(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = cached(server, tmp_path)
    storage.read_range("a.tar", 0, 1000)

    def refuse(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with caplog.at_level(logging.WARNING):
        assert storage.read_range("a.tar", 0, 9000) == DATA[:9000]
        assert storage.read_range("b.tar", 0, 9000) == DATA[::-1][:9000]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left" in caplog.text
    assert len(chunks(tmp_path)) == len(list(tmp_path.glob("[!.]*"))) == 1
    asked = len(server.ranges)
    assert storage.read_range("a.tar", 100, 900) == DATA[100:900]  # what is there is still of use
    assert len(server.ranges) == asked


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, 10_000)
    for number in range(10):
        store.put(str(number), bytes(1000))
        os.utime(tmp_path / str(number), (number, number))
    assert store.get("0", 0, 10, 1000) == bytes(10)
    store.put("new", bytes(1000))
    assert store.get("0", 0, 10, 1000) is not None
    assert store.get("new", 0, 10, 1000) is not None
    assert store.get("1", 0, 10, 1000) is None
    assert bytes_in(tmp_path) <= 9000


def test_what_is_larger_than_the_bound_is_not_kept(tmp_path: Path) -> None:
    ChunkStore(tmp_path, 1000).put("large", bytes(2000))
    assert chunks(tmp_path) == []


def fill(folder: Path, seed: int, most: int | None) -> None:
    """Put and get, as a reader does; each chunk's bytes follow from its name."""
    store, source = ChunkStore(folder, LIMIT), random.Random(seed)
    for _ in count() if most is None else range(most):
        number = source.randrange(60)
        found = store.get(f"chunk{number}", 0, CHUNK, CHUNK)
        if found is None:
            store.put(f"chunk{number}", content(number))
        elif found != content(number):
            os._exit(3)


def content(number: int) -> bytes:
    return random.Random(number).randbytes(CHUNK)


def test_several_processes_keep_to_one_bound_and_to_the_truth(tmp_path: Path) -> None:
    workers = [_spawn.Process(target=fill, args=(tmp_path, seed, 250)) for seed in range(3)]
    for worker in workers:
        worker.start()
    most = 0
    while any(worker.is_alive() for worker in workers):
        most = max(most, bytes_in(tmp_path))
        time.sleep(0.002)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert 0 < most <= LIMIT
    assert all(path.read_bytes() == content(int(path.name.removeprefix("chunk"))) for path in chunks(tmp_path))


def test_a_kill_at_any_moment_leaves_whole_chunks_and_nothing_that_stays(tmp_path: Path) -> None:
    source = random.Random(1)
    for seed in range(8):
        worker = _spawn.Process(target=fill, args=(tmp_path, seed, None))
        worker.start()
        while not chunks(tmp_path):
            assert worker.is_alive()
            time.sleep(0.005)
        time.sleep(0.02 + source.random() * 0.1)
        worker.kill()
        worker.join()
        assert worker.exitcode == -9
        assert all(path.read_bytes() == content(int(path.name.removeprefix("chunk"))) for path in chunks(tmp_path))
        assert bytes_in(tmp_path) <= LIMIT
    fill(tmp_path, 99, 60)
    assert bytes_in(tmp_path) <= LIMIT


def test_what_a_killed_writer_left_is_cleared_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, LIMIT)
    abandoned, living = tmp_path / "chunk1-dead.tmp", tmp_path / "chunk2-alive.tmp"
    abandoned.write_bytes(bytes(CHUNK))
    (empty := tmp_path / "chunk3-dead.tmp").touch()  # killed before it had its size
    with living.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(bytes(CHUNK))
        file.flush()
        for number in range(LIMIT // CHUNK + 1):
            store.put(f"chunk{number}", content(number))
        assert not abandoned.exists() and not empty.exists()
        assert living.exists()
