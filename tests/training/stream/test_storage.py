"""Storage: the same bytes from a disk and from afar; what passes is tried again, what is so is said."""

import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest

from manifests.transient import is_transient
from tests.training.stream.server import QUICK, FileServer, serving
from training.stream import storage as storage_module
from training.stream.storage import (
    LocalStorage,
    Patience,
    RemoteStorage,
    ShortReadError,
    Storage,
    open_storage,
)

DATA = bytes(range(256)) * 40


@pytest.fixture
def server() -> Iterator[FileServer]:
    with serving() as server:
        server.files = {"shards/0.tar": DATA, "shards/1.tar": b"", "run.json": b"{}"}
        yield server


@pytest.fixture(params=["path", "file", "memory", "http"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    files = {"shards/0.tar": DATA, "shards/1.tar": b"", "run.json": b"{}"}
    if request.param == "http":
        with serving() as server:
            server.files = files
            yield open_storage(server.url, QUICK)
        return
    root = f"memory://{tmp_path.name}" if request.param == "memory" else str(tmp_path)
    fs, path = fsspec.core.url_to_fs(root)
    for name, data in files.items():
        fs.makedirs(f"{path}/{name}".rpartition("/")[0], exist_ok=True)
        fs.pipe_file(f"{path}/{name}", data)
    yield open_storage(f"file://{root}" if request.param == "file" else root)


def test_ranges_and_files_come_back_as_they_are(storage: Storage) -> None:
    assert storage.read("shards/0.tar") == DATA
    assert storage.read_range("shards/0.tar", 300, 5000) == DATA[300:5000]
    assert storage.read_range("shards/0.tar", 0, len(DATA)) == DATA
    assert storage.read_range("shards/0.tar", 7, 7) == b""
    assert storage.stat("shards/0.tar").size == len(DATA)
    assert storage.names("shards") == ["0.tar", "1.tar"]


@pytest.mark.parametrize(("start", "got"), [(len(DATA) - 10, 10), (len(DATA), 0), (len(DATA) + 50, 0)])
def test_a_range_past_the_end_is_a_short_read_and_no_input_output_error(storage: Storage, start: int, got: int) -> None:
    with pytest.raises(ShortReadError, match=r"0\.tar") as caught:
        storage.read_range("shards/0.tar", start, start + 100)
    assert (caught.value.path, caught.value.start, caught.value.stop) == ("shards/0.tar", start, start + 100)
    assert caught.value.got == got
    assert not isinstance(caught.value, OSError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_missing_file_is_named_with_what_to_do(storage: Storage) -> None:
    for read in (storage.read, storage.stat, storage.names, lambda path: storage.read_range(path, 0, 5)):
        with pytest.raises(FileNotFoundError, match=r"shards/9\.tar: cannot be read: No such file.*; check the path"):
            read("shards/9.tar")


def test_a_pickled_storage_reads_the_same(storage: Storage) -> None:
    assert pickle.loads(pickle.dumps(storage)).read_range("shards/0.tar", 5, 9) == DATA[5:9]


def test_a_new_file_is_listed_at_once(tmp_path: Path) -> None:
    storage = open_storage("memory://growing")
    for number in range(3):
        fsspec.filesystem("memory").pipe_file(f"/growing/units/{number}.json", b"{}")
        assert len(storage.names("units")) == len(storage.listing("units")) == number + 1


def test_a_listing_has_sizes_and_leaves_folders_out(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.tar").write_bytes(b"abc")
    assert {name: stat.size for name, stat in LocalStorage(str(tmp_path)).listing("").items()} == {"a.tar": 3}


def test_a_file_that_changes_has_another_version(tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abc")
    local = LocalStorage(str(tmp_path))
    before = local.stat("a").version
    os.replace(tmp_path / "b", tmp_path / "a")
    assert local.stat("a").version != before
    remote = open_storage(server.url, QUICK)
    before = remote.stat("shards/0.tar").version
    assert remote.stat("shards/0.tar").version == before
    server.files["shards/0.tar"] = DATA[::-1]
    assert remote.stat("shards/0.tar").version != before


def test_threads_share_descriptors_without_mixing_ranges_or_leaking(tmp_path: Path) -> None:
    for number in range(200):  # more than are kept open
        (tmp_path / str(number)).write_bytes(bytes([number]) * 4096)
    storage = LocalStorage(str(tmp_path))
    before = len(os.listdir("/proc/self/fd"))

    def check(turn: int) -> bool:
        number, start = turn * 7 % 200, turn % 4000
        return storage.read_range(str(number), start, start + 90) == bytes([number]) * 90

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, range(4000)))
    assert len(os.listdir("/proc/self/fd")) <= before + 128
    storage.close()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert check(3)  # closing lets go; a later read opens again


@pytest.mark.parametrize("fault", [500, 502, 503, 504, 429, 408, "cut"])
def test_what_passes_is_tried_again(server: FileServer, fault: int | str) -> None:
    server.faults.extend([fault] * 3)
    assert open_storage(server.url, QUICK).read_range("shards/0.tar", 10, 3000) == DATA[10:3000]
    assert server.requests == 4


def test_an_overloaded_server_is_not_taken_for_a_missing_file(server: FileServer) -> None:
    server.faults.extend([503] * 4)
    assert open_storage(server.url, QUICK).stat("shards/0.tar").size == len(DATA)


def test_a_silent_connection_is_given_up_and_tried_again(server: FileServer) -> None:
    server.faults.append("hang")
    patience = Patience(deadline_s=20, attempt_timeout_s=0.2, first_wait_s=0.01)
    assert open_storage(server.url, patience).read_range("shards/0.tar", 0, 9) == DATA[:9]


@pytest.mark.parametrize(("status", "kind"), [(404, FileNotFoundError), (403, OSError), (400, OSError)])
def test_a_refusal_is_not_tried_again(server: FileServer, status: int, kind: type[OSError]) -> None:
    server.faults.append(status)
    with pytest.raises(kind, match=r"http://127.*shards/0\.tar: cannot be read"):
        open_storage(server.url, QUICK).read("shards/0.tar")
    assert server.requests == 1


def test_patience_ends(server: FileServer) -> None:
    server.faults.extend([503] * 10_000)
    patience = Patience(deadline_s=2.5, first_wait_s=0.02, max_wait_s=0.05)
    with pytest.raises(OSError, match=r"503.*after retries for 2\.5 s.*resume"):
        open_storage(server.url, patience).read("shards/0.tar")
    assert 1 < server.requests < 10_000


def test_a_server_that_is_long_away_is_told_of_once(
    server: FileServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    storage = open_storage(server.url, QUICK)
    server.faults.append(503)
    storage.read("shards/0.tar")
    assert not caplog.messages
    monkeypatch.setattr(storage_module, "_SILENT_S", 0.0)
    server.faults.extend([503] * 5)
    storage.read("shards/0.tar")
    (message,) = caplog.messages
    assert server.url in message and "503" in message and "up to 20 s" in message


def test_a_server_that_ignores_ranges_is_named(server: FileServer) -> None:
    server.knows_ranges = False
    with pytest.raises(OSError, match="must support range requests"):
        open_storage(server.url, QUICK).read_range("shards/0.tar", 100, 200)


@pytest.mark.parametrize("faults", [["hang"], [503] * 10_000])
def test_closing_wakes_whoever_reads(server: FileServer, faults: list[int | str]) -> None:
    server.faults.extend(faults)
    storage = open_storage(server.url, Patience(deadline_s=600, attempt_timeout_s=600, first_wait_s=100))
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(storage.read_range, "shards/0.tar", 0, 10)
        while not server.requests:
            time.sleep(0.01)
        storage.close()
        with pytest.raises(CancelledError):
            reading.result(timeout=20)
        with pytest.raises(CancelledError):
            storage.read("run.json")


def test_many_threads_read_one_remote_storage(server: FileServer) -> None:
    before = threading.active_count()
    storage = open_storage(server.url, QUICK)
    server.faults.extend([503, "cut", 500] * 5)
    with ThreadPoolExecutor(16) as pool:
        starts = range(0, 9000, 90)
        read = list(pool.map(lambda start: storage.read_range("shards/0.tar", start, start + 90), starts))
    assert b"".join(read) == DATA[:9000]
    assert threading.active_count() < before + 60


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (OSError("cut off"), True),
        (OSError(5, "EIO"), True),
        (OSError(28, "ENOSPC"), False),
        (FileNotFoundError(), False),
        (PermissionError(), False),
        (OSError("Forbidden: b/o\nno access"), False),
        (IsADirectoryError(), False),
        (ValueError(), False),
    ],
)
def test_which_errors_pass(error: Exception, expected: bool) -> None:
    assert is_transient(error) is expected


def test_a_url_chooses_the_storage(tmp_path: Path) -> None:
    assert isinstance(open_storage(str(tmp_path)), LocalStorage)
    assert isinstance(open_storage(f"file://{tmp_path}"), LocalStorage)
    assert isinstance(open_storage("memory://x/"), RemoteStorage)
    with pytest.raises(ValueError, match="nonsense"):
        open_storage("nonsense://x")
