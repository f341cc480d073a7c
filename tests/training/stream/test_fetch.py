"""Read-ahead: the right bytes in any order of taking, within a budget, and nobody waits for ever."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.stream.coalesce import Range
from training.stream.fetch import Fetcher, LocalFetcher, ReadAhead, RemoteFetcher, open_fetcher
from training.stream.storage import FileStat, LocalStorage, ShortReadError, open_storage

FILES = {name: random.Random(name).randbytes(20_000) for name in "abc"}
SMALL = ReadAhead(budget_bytes=4000, connections=3, max_gap_bytes=50, max_span_bytes=600)


class Afar:
    """A storage that waits for its gate and notes what is asked of it."""

    url = "far://away"

    def __init__(self, is_open: bool = True) -> None:
        self.gate, self.spans, self.at_once, self.most = threading.Event(), list[Range](), 0, 0
        self.lock = threading.Lock()
        self.error: Exception | None = None
        if is_open:
            self.gate.set()

    def names(self, folder: str) -> list[str]:
        return sorted(FILES)

    def listing(self, folder: str) -> dict[str, FileStat]:
        return {name: self.stat(name) for name in FILES}

    def stat(self, path: str) -> FileStat:
        return FileStat(len(FILES[path]), "")

    def read(self, path: str) -> bytes:
        return FILES[path]

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        with self.lock:
            self.spans.append(Range(path, start, stop))
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        self.gate.wait(30)
        time.sleep(0.001)
        with self.lock:
            self.at_once -= 1
        if self.error:
            raise self.error
        if stop > len(FILES[path]):
            raise ShortReadError(path, start, stop, max(0, len(FILES[path]) - start))
        return FILES[path][start:stop]

    def close(self) -> None:
        self.gate.set()


@pytest.fixture
def on_disk(tmp_path: Path) -> LocalStorage:
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    return LocalStorage(str(tmp_path))


@pytest.fixture(params=["disk", "afar"])
def fetcher(request: pytest.FixtureRequest, on_disk: LocalStorage) -> Iterator[Fetcher]:
    with open_fetcher(on_disk if request.param == "disk" else Afar(), SMALL) as fetcher:
        yield fetcher


def wanted(part: Range) -> bytes:
    return FILES[part.path][part.start : part.stop]


def batches(seed: int, count: int) -> list[list[Range]]:
    source = random.Random(seed)
    starts = [[source.randrange(19_000) for _ in range(8)] for _ in range(count)]
    return [[Range(source.choice("abc"), start, start + source.randrange(300)) for start in some] for some in starts]


def waits(call: Callable[[], object]) -> Future[object]:
    """A call in a thread of its own, and seen to wait."""
    pool = ThreadPoolExecutor(1)
    waiting = pool.submit(call)
    pool.shutdown(wait=False)
    time.sleep(0.05)
    assert not waiting.done()
    return waiting


def test_a_disk_is_read_directly_and_the_rest_by_threads(on_disk: LocalStorage) -> None:
    with open_fetcher(on_disk) as near, open_fetcher(open_storage("memory://x")) as far:
        assert isinstance(near, LocalFetcher)
        assert isinstance(far, RemoteFetcher)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10**6), ahead=st.integers(1, 4))
def test_every_range_comes_back_whatever_is_submitted_ahead(seed: int, ahead: int) -> None:
    with RemoteFetcher(Afar(), ReadAhead(budget_bytes=10**6, connections=2, max_gap_bytes=99)) as fetcher:
        waiting = []
        for batch in batches(seed, 12):
            waiting.append((batch, fetcher.submit(batch)))
            if len(waiting) > ahead:
                some, reads = waiting.pop(0)
                assert [read.take() for read in reads] == [wanted(part) for part in some]
        assert all(
            read.take() == wanted(part) for some, reads in waiting for part, read in zip(some, reads, strict=True)
        )


def test_a_producer_ahead_of_a_consumer_keeps_to_the_budget(fetcher: Fetcher) -> None:
    todo = batches(1, 60)
    passed: list[tuple[list[Range], list[object]]] = []

    def produce() -> None:
        for batch in todo:
            passed.append((batch, list(fetcher.submit(batch))))

    with ThreadPoolExecutor(1) as pool:
        produced = pool.submit(produce)
        for number in range(len(todo)):
            while len(passed) <= number:
                assert not produced.done() or produced.result() is None
                time.sleep(0.001)
            under_way = sum(part.stop - part.start for batch, _ in passed[number:] for part in batch)
            assert under_way <= SMALL.budget_bytes or len(passed) == number + 1
            batch, reads = passed[number]
            order = random.Random(number).sample(range(len(batch)), len(batch))
            assert [reads[k].take() for k in order] == [wanted(batch[k]) for k in order]  # type: ignore[attr-defined]


def test_a_full_budget_waits_until_bytes_are_taken_or_dropped(fetcher: Fetcher) -> None:
    first, second = fetcher.submit([Range("a", 0, 2000), Range("a", 2000, 4000)])
    more = [Range("b", 0, 2000)]
    assert not fetcher.fits(more)
    waiting = waits(lambda: fetcher.submit(more)[0].take())
    assert first.take() == FILES["a"][:2000]
    assert waiting.result(10) == FILES["b"][:2000]
    second.drop()
    assert fetcher.fits([Range("b", 0, 4000)])


def test_a_batch_larger_than_the_budget_passes_alone(fetcher: Fetcher) -> None:
    large = Range("a", 0, 9000)
    assert fetcher.submit([large])[0].take() == wanted(large)
    assert fetcher.submit([]) == []


def test_a_short_file_costs_only_the_ranges_behind_its_end(fetcher: Fetcher) -> None:
    parts = [Range("a", start, start + 100) for start in range(19_700, 20_200, 100)]
    reads = fetcher.submit(parts)
    assert [read.take() for read in reads[:3]] == [wanted(part) for part in parts[:3]]
    for read in reads[3:]:
        with pytest.raises(ShortReadError):
            read.take()
    assert fetcher.fits([Range("a", 0, 4000)])  # what failed no longer counts


def test_a_read_that_fails_tells_whoever_takes_it_and_no_other() -> None:
    storage = Afar()
    storage.error = OSError("far://away/a: unplugged")
    with RemoteFetcher(storage, SMALL) as fetcher:
        reads = fetcher.submit([Range("a", 0, 10), Range("a", 10, 20)])
        for read in reads:
            with pytest.raises(OSError, match="unplugged"):
                read.take()
        storage.error = None
        assert fetcher.submit([Range("a", 0, 10)])[0].take() == FILES["a"][:10]


def test_what_waits_is_coalesced_across_batches() -> None:
    storage = Afar(is_open=False)
    ahead = ReadAhead(budget_bytes=10**6, connections=1, max_gap_bytes=0, max_span_bytes=1000)
    with RemoteFetcher(storage, ahead) as fetcher:
        blocker = fetcher.submit([Range("c", 0, 1)])
        even = fetcher.submit([Range("a", start, start + 100) for start in range(0, 2000, 200)])
        odd = fetcher.submit([Range("a", start, start + 100) for start in range(100, 2000, 200)])
        storage.gate.set()
        assert b"".join(a.take() + b.take() for a, b in zip(even, odd, strict=True)) == FILES["a"][:2000]
        assert blocker[0].take() == FILES["c"][:1]
    assert storage.spans == [Range("c", 0, 1), Range("a", 0, 1000), Range("a", 1000, 2000)]


def test_what_is_needed_first_is_read_first() -> None:
    storage = Afar(is_open=False)
    with RemoteFetcher(storage, ReadAhead(connections=1, max_gap_bytes=0)) as fetcher:
        parts = [Range("c", 0, 1), Range("b", 500, 600), Range("a", 900, 950), Range("b", 0, 10), Range("a", 5, 9)]
        reads = [fetcher.submit([part])[0] for part in parts]
        storage.gate.set()
        assert [read.take() for read in reads] == [wanted(part) for part in parts]
    assert storage.spans == parts


def test_connections_are_used_and_not_passed() -> None:
    storage = Afar(is_open=False)
    with RemoteFetcher(storage, ReadAhead(connections=4, max_gap_bytes=0)) as fetcher:
        reads = fetcher.submit([Range("a", start, start + 5) for start in range(0, 4000, 100)])
        while storage.at_once < 4:
            time.sleep(0.002)
        storage.gate.set()
        assert all(len(read.take()) == 5 for read in reads)
    assert storage.most == 4


def test_what_is_dropped_before_it_starts_is_not_read() -> None:
    storage = Afar(is_open=False)
    with RemoteFetcher(storage, ReadAhead(connections=1, max_gap_bytes=0)) as fetcher:
        first, second, third = (fetcher.submit([Range(name, 0, 10)])[0] for name in "abc")
        second.drop()
        storage.gate.set()
        assert first.take() + third.take() == FILES["a"][:10] + FILES["c"][:10]
    assert [span.path for span in storage.spans] == ["a", "c"]


def test_closing_wakes_taker_and_submitter() -> None:
    storage = Afar(is_open=False)
    fetcher = RemoteFetcher(storage, SMALL)
    reads = fetcher.submit([Range("a", 0, 2000), Range("b", 0, 2000)])
    taking = [waits(read.take) for read in reads]
    submitting = waits(lambda: fetcher.submit([Range("c", 0, 10)]))
    fetcher.close()
    for waiting in (*taking, submitting):
        with pytest.raises(CancelledError):
            waiting.result(10)
    with pytest.raises(CancelledError):
        fetcher.submit([])
    storage.gate.set()  # a read that ends after the closing finds nobody, and that is all
    fetcher.close()


def test_a_closed_disk_fetcher_takes_no_more(on_disk: LocalStorage) -> None:
    fetcher = LocalFetcher(on_disk, SMALL)
    read = fetcher.submit([Range("a", 0, 4000)])[0]
    submitting = waits(lambda: fetcher.submit([Range("c", 0, 10)]))
    fetcher.close()
    with pytest.raises(CancelledError):
        submitting.result(10)
    assert read.take() == FILES["a"][:4000]
