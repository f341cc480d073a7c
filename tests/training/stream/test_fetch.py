"""Read-ahead: bounded, coalesced, and never in the way of closing."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.stream.coalesce import Range
from training.stream.fetch import Fetcher, LocalFetcher, ReadAhead, RemoteFetcher, open_fetcher
from training.stream.storage import FileStat, LocalStorage, ShortReadError, Storage

DATA = bytes(range(256)) * 40


class Held:
    """A storage whose reads wait until they are let go, or fail."""

    url = "held://"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.reads: list[tuple[str, int, int]] = []
        self.error: Exception | None = None

    def names(self, folder: str) -> list[str]:
        return []

    def listing(self, folder: str) -> dict[str, FileStat]:
        return {}

    def stat(self, path: str) -> FileStat:
        return FileStat(len(DATA), "1")

    def read(self, path: str) -> bytes:
        return DATA

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        self.reads.append((path, start, stop))
        assert self.go.wait(20)
        if self.error:
            raise self.error
        if stop > len(DATA):
            raise ShortReadError(path, start, stop, max(0, len(DATA) - start))
        return DATA[start:stop]

    def close(self) -> None:
        self.go.set()


@pytest.fixture
def held() -> Iterator[Held]:
    storage = Held()
    yield storage
    storage.go.set()


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def ranges(*starts: int, size: int = 10, path: str = "a") -> list[Range]:
    return [Range(path, start, start + size) for start in starts]


@pytest.fixture(params=["local", "remote"])
def fetcher(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fetcher]:
    (tmp_path / "a").write_bytes(DATA)
    storage = LocalStorage(str(tmp_path))
    ahead = ReadAhead(budget_bytes=1000, connections=2)
    with LocalFetcher(storage, ahead) if request.param == "local" else RemoteFetcher(storage, ahead) as made:
        yield made


def test_bytes_are_those_of_their_ranges(fetcher: Fetcher) -> None:
    wanted = ranges(500, 0, 3, 9000, 500)
    assert [pending.take() for pending in fetcher.submit(wanted)] == [DATA[part.start : part.stop] for part in wanted]


def test_no_more_is_under_way_than_the_budget(fetcher: Fetcher) -> None:
    first = fetcher.submit(ranges(0, size=600))
    assert not fetcher.fits(ranges(0, size=401)) and fetcher.fits(ranges(0, size=400))
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(fetcher.submit, ranges(0, size=500))
        time.sleep(0.05)
        assert not second.done()
        first[0].take()
        second.result(20)[0].drop()
    assert fetcher.fits(ranges(0, size=10_000))  # nothing is under way: anything may start


def test_closing_refuses_who_waits_and_who_comes(fetcher: Fetcher) -> None:
    fetcher.submit(ranges(0, size=900))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(fetcher.submit, ranges(0, size=900))
        fetcher.close()
        with pytest.raises(CancelledError):
            waiting.result(20)
    with pytest.raises(CancelledError):
        fetcher.submit(ranges(0))


def test_a_short_file_spoils_only_the_ranges_behind_its_end(fetcher: Fetcher) -> None:
    good, bad = fetcher.submit(ranges(len(DATA) - 20, len(DATA) - 5))
    assert good.take() == DATA[-20:-10]
    with pytest.raises(ShortReadError):
        bad.take()


def test_errors_come_to_who_takes_and_free_the_budget(held: Held) -> None:
    held.error = OSError("held://a: gone")
    held.go.set()
    with RemoteFetcher(held, ReadAhead(budget_bytes=100, connections=2)) as fetcher:
        for pending in fetcher.submit(ranges(0, 5000, size=50)):
            with pytest.raises(OSError, match="gone"):
                pending.take()
        assert fetcher.fits(ranges(0, size=100))


def test_what_waits_is_coalesced_across_batches(held: Held) -> None:
    ahead = ReadAhead(connections=1, max_gap_bytes=8)
    with RemoteFetcher(held, ahead) as fetcher:
        pending = fetcher.submit(ranges(0, path="first"))
        until(lambda: len(held.reads) == 1)
        for start in (100, 110, 125):
            pending += fetcher.submit(ranges(start))
        held.go.set()
        assert [one.take() for one in pending] == [DATA[s : s + 10] for s in (0, 100, 110, 125)]
    assert held.reads == [("first", 0, 10), ("a", 100, 135)]


def test_closing_wakes_takers_while_reads_hang(held: Held) -> None:
    fetcher = RemoteFetcher(held, ReadAhead(connections=1))
    pending = fetcher.submit([*ranges(0), *ranges(0, path="b")])
    with ThreadPoolExecutor(2) as pool:
        takers = [pool.submit(one.take) for one in pending]
        until(lambda: len(held.reads) == 1)
        fetcher.close()
        for taker in takers:
            with pytest.raises(CancelledError):
                taker.result(20)


@given(st.lists(st.lists(st.integers(0, 10_000), min_size=1, max_size=8), max_size=12), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_any_batches_come_back_whole(batches: list[list[int]], connections: int) -> None:
    storage = Held()
    storage.go.set()
    with RemoteFetcher(storage, ReadAhead(connections=connections, max_gap_bytes=64)) as fetcher:
        pending = [
            (start, one)
            for starts in batches
            for start, one in zip(starts, fetcher.submit(ranges(*starts)), strict=True)
        ]
        assert all(one.take() == DATA[start : start + 10] for start, one in pending)


def test_the_fetcher_suits_the_storage(tmp_path: Path, held: Storage) -> None:
    for storage, kind in ((LocalStorage(str(tmp_path)), LocalFetcher), (held, RemoteFetcher)):
        with open_fetcher(storage) as fetcher:
            assert isinstance(fetcher, kind)
