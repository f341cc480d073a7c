"""The disk cache: right bytes, bounded, shared by processes and unharmed by killing them."""

import errno
import logging
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import training.stream.diskcache as diskcache
from tests.training.stream.serve import served
from training.stream.diskcache import CachedStorage, ChunkStore
from training.stream.storage import LocalStorage, ShortReadError

SIZE = 5 * 2**20 + 123


class Counted(LocalStorage):
    """Counts ranges read."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        self.reads: list[tuple[int, int]] = []

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        self.reads.append((start, stop))
        return super().read_range(path, start, stop)


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    content = random.Random(0).randbytes(SIZE)
    (tmp_path / "remote").mkdir()
    (tmp_path / "remote" / "a.tar").write_bytes(content)
    return content


def taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.name != ".used")


def test_ranges_come_once_from_remote_and_then_from_disk(tmp_path: Path, data: bytes) -> None:
    remote = Counted(str(tmp_path / "remote"))
    cached = CachedStorage(remote, tmp_path / "cache", 10 * SIZE)
    rng = random.Random(1)
    for _ in range(200):
        start, stop = sorted(rng.sample(range(SIZE + 1), 2))
        assert cached.read_range("a.tar", start, stop) == data[start:stop]
    chunks = [(start, stop) for start, stop in remote.reads]
    assert sum(stop - start for start, stop in chunks) == SIZE and len(chunks) <= 6
    again = CachedStorage(remote, tmp_path / "cache", 10 * SIZE)
    assert again.read_range("a.tar", 0, SIZE) == data and len(remote.reads) == len(chunks)


def test_a_changed_file_is_read_anew(tmp_path: Path, data: bytes) -> None:
    remote = LocalStorage(str(tmp_path / "remote"))
    CachedStorage(remote, tmp_path / "cache", 10 * SIZE).read_range("a.tar", 0, 100)
    (tmp_path / "new").write_bytes(data[::-1])
    (tmp_path / "new").rename(tmp_path / "remote" / "a.tar")
    remote.close()
    assert CachedStorage(remote, tmp_path / "cache", 10 * SIZE).read_range("a.tar", 0, 100) == data[::-1][:100]


def test_a_range_behind_the_end_is_refused(tmp_path: Path, data: bytes) -> None:
    cached = CachedStorage(LocalStorage(str(tmp_path / "remote")), tmp_path / "cache", 10 * SIZE)
    with pytest.raises(ShortReadError):
        cached.read_range("a.tar", SIZE - 5, SIZE + 5)


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, 1000)
    for number in range(9):
        store.put(str(number), bytes(100))
        os.utime(tmp_path / str(number), ns=(number, number))
    assert store.get("0", 0, 5, 100) == bytes(5)
    for name in "xyz":
        store.put(name, bytes(100))
        assert taken(tmp_path) <= 1000
    assert store.get("0", 0, 100, 100) and store.get("1", 0, 100, 100) is None
    store.put("large", bytes(1001))
    assert store.get("large", 0, 1, 1001) is None


def test_a_chunk_of_another_size_is_not_read(tmp_path: Path) -> None:
    store = ChunkStore(tmp_path, 1000)
    (tmp_path / "torn").write_bytes(b"123")
    assert store.get("torn", 0, 2, 100) is None


def test_a_full_disk_is_done_without_after_one_warning(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    cached = CachedStorage(LocalStorage(str(tmp_path / "remote")), tmp_path / "cache", 10 * SIZE)
    monkeypatch.setattr(diskcache.os, "posix_fallocate", full)
    with caplog.at_level(logging.WARNING):
        for start in range(0, SIZE - 10, 2**20):
            assert cached.read_range("a.tar", start, start + 10) == data[start : start + 10]
    assert len(caplog.records) == 1 and "No space left" in caplog.text
    assert taken(tmp_path / "cache") == 0


_READER = """
import random, sys
from pathlib import Path
from training.stream.diskcache import CachedStorage
from training.stream.storage import open_storage
url, folder, original, seed, limit = sys.argv[1:]
data, rng = Path(original).read_bytes(), random.Random(int(seed))
cached = CachedStorage(open_storage(url), Path(folder), int(limit))
print("begun", flush=True)
for _ in range(60 if int(seed) >= 100 else 10**9):
    start = rng.randrange(len(data) - 200_000)
    assert cached.read_range("a.tar", start, start + 200_000) == data[start : start + 200_000]
"""


def test_processes_share_a_cache_and_may_be_killed_at_any_moment(tmp_path: Path, data: bytes) -> None:
    folder, limit = tmp_path / "cache", 3 * 2**20
    rng = random.Random(2)
    with served(tmp_path / "remote") as url:

        def reader(seed: int) -> "subprocess.Popen[str]":
            arguments = [url, str(folder), str(tmp_path / "remote" / "a.tar"), str(seed), str(limit)]
            return subprocess.Popen([sys.executable, "-c", _READER, *arguments], stdout=subprocess.PIPE, text=True)

        for seed in range(3):
            pair = [reader(seed), reader(seed + 50)]
            for one in pair:
                assert one.stdout is not None and one.stdout.readline() == "begun\n"
            time.sleep(rng.uniform(0.02, 0.3))
            assert all(one.poll() is None for one in pair)
            for one in pair:
                one.send_signal(signal.SIGKILL)
                one.communicate()
            assert taken(folder) <= limit
        (folder / "killed-0.tmp").write_bytes(bytes(2**20))  # as a process killed while writing leaves it
        last = [reader(100), reader(101)]
        for one in last:
            one.communicate(timeout=60)
            assert one.returncode == 0
    assert taken(folder) <= limit and not list(folder.glob("*.tmp"))
