"""Read-ahead: ranges handed in long before their bytes are needed, bounded in bytes."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from training.stream.coalesce import Range, Span, coalesce
from training.stream.storage import LocalStorage, ShortReadError, Storage

_LOOKED_AT = 512
"""Waiting ranges of one file that are looked through for neighbours: finding them must stay cheaper than reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadAhead:
    """How far and how wide to read ahead.

    Attributes:
        budget_bytes: Submitted and not yet taken, at most (one batch larger than this passes alone).
        connections: Reads at once of remote storage; latency times wanted rate, over ``max_span_bytes``.
        max_gap_bytes: Bytes between two ranges worth reading to save a request.
        max_span_bytes: A request's longest, unless one range is longer. What is read and not wanted comes on top of
            the budget, up to ``connections`` times this.
    """

    budget_bytes: int = 256 << 20
    connections: int = 16
    max_gap_bytes: int = 128 << 10
    max_span_bytes: int = 8 << 20


class Budget:
    """Bytes that may be under way at once."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit, self._held, self._is_closed = limit_bytes, 0, False
        self._changed = threading.Condition()

    def fits(self, size: int) -> bool:
        """Whether so many more may start now. With none under way, any number may."""
        return self._held == 0 or self._held + size <= self._limit

    def acquire(self, size: int) -> None:
        """Wait until so many bytes fit, and hold them.

        Raises:
            CancelledError: If the budget is closed, before or meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed or self.fits(size))
            if self._is_closed:
                raise CancelledError("the fetcher is closed")
            self._held += size

    def release(self, size: int) -> None:
        """Give bytes back."""
        with self._changed:
            self._held -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Refuse whoever waits and whoever comes."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()


class Pending:
    """The bytes of one range, on their way. Exactly one of :meth:`take` and :meth:`drop` must be called, once."""

    __slots__ = ("_cancel", "_read", "_release", "size")

    def __init__(self, size: int, read: Callable[[], bytes], cancel: Callable[[], object], budget: Budget) -> None:
        self.size, self._read, self._cancel, self._release = size, read, cancel, budget.release

    def take(self) -> bytes:
        """The bytes, waited for; from here on they are the caller's and no longer count.

        Raises:
            ShortReadError: If the file ends before the range does.
            OSError: If it cannot be read, retries included.
            CancelledError: If the fetcher or its storage was closed.
        """
        try:
            return self._read()
        finally:
            self._release(self.size)

    def drop(self) -> None:
        """Do without them."""
        self._cancel()
        self._release(self.size)


class Fetcher(Protocol):
    """Takes ranges in the order they will be needed, gives their bytes in any."""

    def fits(self, ranges: Sequence[Range]) -> bool:
        """Whether :meth:`submit` would return at once."""

    def submit(self, ranges: Sequence[Range]) -> list[Pending]:
        """Start reading; waits while more than the budget is under way.

        Raises:
            CancelledError: If the fetcher is closed, before or meanwhile.
        """

    def close(self) -> None:
        """Stop, now: nobody waits any longer, here or in :meth:`Pending.take`. Leaves the storage open."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_fetcher(storage: Storage, ahead: ReadAhead | None = None) -> Fetcher:
    """The fetcher that suits a storage."""
    ahead = ahead or ReadAhead()
    return LocalFetcher(storage, ahead) if isinstance(storage, LocalStorage) else RemoteFetcher(storage, ahead)


class _Closing:
    """``with`` closes."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        raise NotImplementedError


class LocalFetcher(_Closing):
    """Reads where the bytes are taken, in the taker's thread; the system reads ahead into its page cache.

    Handing 43 kB to another thread and back costs several times what reading them does.
    """

    def __init__(self, storage: LocalStorage, ahead: ReadAhead) -> None:
        self._storage, self._ahead = storage, ahead
        self._budget = Budget(ahead.budget_bytes)

    def fits(self, ranges: Sequence[Range]) -> bool:
        """See :meth:`Fetcher.fits`."""
        return self._budget.fits(_total(ranges))

    def submit(self, ranges: Sequence[Range]) -> list[Pending]:
        """See :meth:`Fetcher.submit`."""
        self._budget.acquire(_total(ranges))
        for span in coalesce(ranges, self._ahead.max_gap_bytes, self._ahead.max_span_bytes):
            self._storage.expect(span.path, span.start, span.stop)
        read = self._storage.read_range
        return [Pending(part.stop - part.start, partial(read, *part), _nothing, self._budget) for part in ranges]

    def close(self) -> None:
        """See :meth:`Fetcher.close`; what was submitted may still be taken."""
        self._budget.close()


@dataclass(slots=True)
class _Piece:
    serial: int
    range: Range
    future: Future[bytes] = field(default_factory=Future)


class RemoteFetcher(_Closing):
    """Reads in ``connections`` threads; what waits for one is coalesced across batches."""

    def __init__(self, storage: Storage, ahead: ReadAhead) -> None:
        self._storage, self._ahead = storage, ahead
        self._budget = Budget(ahead.budget_bytes)
        self._threads = ThreadPoolExecutor(ahead.connections, thread_name_prefix="fetch")
        self._lock = threading.RLock()
        self._waiting: dict[str, list[_Piece]] = {}
        self._reading: set[_Reading] = set()
        self._serial = 0
        self._is_starting = self._is_closed = False

    def fits(self, ranges: Sequence[Range]) -> bool:
        """See :meth:`Fetcher.fits`."""
        return self._budget.fits(_total(ranges))

    def submit(self, ranges: Sequence[Range]) -> list[Pending]:
        """See :meth:`Fetcher.submit`."""
        self._budget.acquire(_total(ranges))
        with self._lock:
            if self._is_closed:
                raise CancelledError("the fetcher is closed")
            pieces = [_Piece(self._serial + number, part) for number, part in enumerate(ranges)]
            self._serial += len(pieces)
            for piece in pieces:
                self._waiting.setdefault(piece.range.path, []).append(piece)
            self._start()
        return [
            Pending(part.stop - part.start, piece.future.result, piece.future.cancel, self._budget)
            for part, piece in zip(ranges, pieces, strict=True)
        ]

    def close(self) -> None:
        """See :meth:`Fetcher.close`."""
        self._budget.close()
        with self._lock:
            self._is_closed = True
            waiting = [piece for pieces in self._waiting.values() for piece in pieces]
            for piece in (*waiting, *(piece for reading in self._reading for piece in reading.pieces)):
                piece.future.cancel()
            self._waiting.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self) -> None:
        """Give every free thread a span. Called with the lock, by a read that ends at once from within itself."""
        if self._is_starting:
            return
        self._is_starting = True
        while not self._is_closed and len(self._reading) < self._ahead.connections and (reading := self._next()):
            self._reading.add(reading)
            self._threads.submit(_read, self._storage, reading).add_done_callback(partial(self._settle, reading))
        self._is_starting = False

    def _next(self) -> "_Reading | None":
        """The span around the piece that has waited longest."""
        while self._waiting:
            path = min(self._waiting, key=lambda path: self._waiting[path][0].serial)
            pieces = [piece for piece in self._waiting.pop(path) if not piece.future.cancelled()]
            if pieces:
                return self._around_first(path, pieces)
        return None

    def _around_first(self, path: str, pieces: list[_Piece]) -> "_Reading":
        near = [piece.range for piece in pieces[:_LOOKED_AT]]
        span = coalesce(near, self._ahead.max_gap_bytes, self._ahead.max_span_bytes)[0]
        chosen = set(span.members)
        if left := [piece for number, piece in enumerate(pieces) if number not in chosen]:
            self._waiting[path] = left
        return _Reading(span, tuple(pieces[number] for number in span.members))

    def _settle(self, reading: "_Reading", done: Future[list[bytes | ShortReadError]]) -> None:
        with self._lock:
            self._reading.discard(reading)
            self._start()
        if done.cancelled():
            return
        error = done.exception()
        results = done.result() if error is None else [error] * len(reading.pieces)
        for piece, result in zip(reading.pieces, results, strict=True):
            _finish(piece.future, result)


@dataclass(frozen=True, slots=True, eq=False)
class _Reading:
    span: Span
    pieces: tuple[_Piece, ...]


def _read(storage: Storage, reading: _Reading) -> list[bytes | ShortReadError]:
    """The pieces' own bytes, copied, so that the span's go at once. In a truncated file, each piece for itself."""
    span = reading.span
    try:
        data = memoryview(storage.read_range(span.path, span.start, span.stop))
    except ShortReadError:
        return [_alone(storage, piece.range) for piece in reading.pieces]
    return [bytes(data[piece.range.start - span.start : piece.range.stop - span.start]) for piece in reading.pieces]


def _alone(storage: Storage, part: Range) -> bytes | ShortReadError:
    try:
        return storage.read_range(*part)
    except ShortReadError as error:
        return error


def _finish(future: Future[bytes], result: bytes | BaseException) -> None:
    if not future.set_running_or_notify_cancel():
        return
    if isinstance(result, BaseException):
        future.set_exception(result)
    else:
        future.set_result(result)


def _total(ranges: Sequence[Range]) -> int:
    return sum(part.stop - part.start for part in ranges)


def _nothing() -> None:
    """A range not read costs nothing."""
