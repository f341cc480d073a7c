"""Bytes from a folder and from a server that fails."""

import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tests.training.stream.serve import Faults, served
from training.stream.storage import LocalStorage, Patience, RemoteStorage, ShortReadError, Storage, open_storage

QUICK = Patience(deadline_s=5, attempt_timeout_s=2, first_wait_s=0.001, max_wait_s=0.01)
DATA = bytes(range(256)) * 8


class Flaky(MemoryFileSystem):
    """Raises what is in ``raised`` first, one a read."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    raised: ClassVar[list[BaseException]] = []
    reads = 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        Flaky.reads += 1
        if Flaky.raised:
            raise Flaky.raised.pop(0)
        data: bytes = super().cat_file(path, start, end, **kwargs)
        return data


@pytest.fixture
def flaky() -> Iterator[RemoteStorage]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.raised, Flaky.reads = [], 0
    storage = RemoteStorage("flaky://root", QUICK, {})
    storage._fs.pipe_file("/root/a.tar", DATA)
    yield storage
    storage.close()


@pytest.fixture(params=["local", "memory", "http"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.tar").write_bytes(DATA)
    (tmp_path / "sub" / "b.json").write_bytes(b"{}")
    if request.param == "http":
        with served(tmp_path) as url:
            yield open_storage(url, QUICK)
        return
    if request.param == "memory":
        fs = fsspec.filesystem("memory")
        fs.pipe({"/here/a.tar": DATA, "/here/sub/b.json": b"{}"})
    yield open_storage(str(tmp_path) if request.param == "local" else "memory://here", QUICK)


def test_ranges_files_and_names_are_those_that_were_written(storage: Storage) -> None:
    assert storage.read("a.tar") == DATA
    assert storage.read_range("a.tar", 100, 1000) == DATA[100:1000]
    assert storage.read_range("a.tar", 7, 7) == b""
    assert storage.read_range("a.tar", 0, len(DATA)) == DATA
    assert storage.names("") == ["a.tar", "sub"] and storage.names("sub") == ["b.json"]
    assert storage.stat("a.tar").size == len(DATA) and storage.stat("a.tar").version
    assert list(storage.listing("sub")) == ["b.json"]


def test_a_storage_survives_pickling(storage: Storage) -> None:
    assert pickle.loads(pickle.dumps(storage)).read_range("a.tar", 3, 9) == DATA[3:9]


def test_a_file_that_ends_too_early_says_by_how_much(storage: Storage) -> None:
    with pytest.raises(ShortReadError, match="ends 48 bytes into them") as found:
        storage.read_range("a.tar", 2000, 3000)
    assert (found.value.start, found.value.stop, found.value.got) == (2000, 3000, 48)
    with pytest.raises(ShortReadError, match="ends 0 bytes into them"):
        storage.read_range("a.tar", 5000, 6000)


def test_a_missing_file_is_named_with_a_remedy(storage: Storage) -> None:
    begun = time.monotonic()
    for read in (
        lambda: storage.read("no.tar"),
        lambda: storage.read_range("no.tar", 0, 5),
        lambda: storage.stat("no.tar"),
    ):
        with pytest.raises(FileNotFoundError, match=r"no\.tar.*check the path"):
            read()
    assert time.monotonic() - begun < QUICK.deadline_s  # not tried again


def test_a_version_changes_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    with served(tmp_path) as url:
        for storage in (open_storage(str(tmp_path)), open_storage(url, QUICK)):
            before = storage.stat("a")
            (tmp_path / "a").write_bytes(b"22")
            assert storage.stat("a") != before and storage.stat("a").version != before.version
    assert open_storage(str(tmp_path)).listing("")["a"] == open_storage(str(tmp_path)).stat("a")


def test_lost_connections_are_tried_again(flaky: RemoteStorage) -> None:
    Flaky.raised = [ConnectionResetError("gone"), TimeoutError("slow"), OSError("odd")]
    assert flaky.read_range("a.tar", 5, 50) == DATA[5:50]
    assert Flaky.reads == 4


@pytest.mark.parametrize("error", [PermissionError("no"), FileNotFoundError("no"), IsADirectoryError("no")])
def test_what_no_retry_mends_is_not_tried_again(flaky: RemoteStorage, error: OSError) -> None:
    Flaky.raised = [error]
    with pytest.raises(OSError, match=r"flaky://root/a\.tar"):
        flaky.read("a.tar")
    assert Flaky.reads == 1


def test_patience_ends(flaky: RemoteStorage) -> None:
    impatient = RemoteStorage("flaky://root", Patience(deadline_s=0.1, first_wait_s=0.01, max_wait_s=0.02), {})
    Flaky.raised = [ConnectionResetError("gone") for _ in range(10_000)]
    with pytest.raises(OSError, match=r"after retries for 0\.1 s.*then resume"):
        impatient.read("a.tar")
    assert 1 < Flaky.reads < 10_000


def test_a_server_that_fails_often_still_gives_every_byte(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(DATA)
    faults = Faults(every=2)
    with served(tmp_path, faults) as url, ThreadPoolExecutor(4) as pool:
        storage = open_storage(url, QUICK)
        ranges = [(n * 40, n * 40 + 60) for n in range(40)]
        assert list(pool.map(lambda part: storage.read_range("a.tar", *part), ranges)) == [DATA[a:b] for a, b in ranges]
        storage.close()
    assert faults.failed >= 20


def test_closing_wakes_those_who_wait(flaky: RemoteStorage) -> None:
    waiting = RemoteStorage("flaky://root", Patience(deadline_s=600, first_wait_s=500, max_wait_s=500), {})
    Flaky.raised = [ConnectionResetError("gone") for _ in range(10)]
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(waiting.read, "a.tar")
        while not Flaky.reads:
            time.sleep(0.001)
        threading.Timer(0.05, waiting.close).start()
        with pytest.raises((OSError, CancelledError)):
            read.result(20)
    with pytest.raises(CancelledError):
        waiting.read("a.tar")


def test_a_local_file_deleted_while_open_is_still_read_by_who_has_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(DATA)
    storage = LocalStorage(str(tmp_path))
    storage.read_range("a", 0, 1)
    (tmp_path / "a").unlink()
    assert storage.read_range("a", 0, 9) == DATA[:9]
    storage.close()
    with pytest.raises(FileNotFoundError):
        storage.read_range("a", 0, 9)
