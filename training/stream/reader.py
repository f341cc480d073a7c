"""A reader: a process that makes batches for another, which started it and tells it all by a pipe.

Usage: by :mod:`training.stream.readers` alone.
"""

import mmap
import os
import pickle
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from threading import Lock

from training.stream.making import Made, ThreadMaker, open_fetchers
from training.stream.messages import NO_BATCH, Answer, Ask, Failure, Pipe, Setup, SpareWanted
from training.stream.pixels import use_one_thread
from training.stream.state import Quarantined
from training.stream.timeline import Located

_ALIGNED = 64
"""Bytes; so that no array begins within another's cache line."""


class Reader:
    """Makes what is asked for.

    Args:
        asks: Where batches are asked for, and go.
        spares: Where spares are asked for.
        setup: How.
    """

    def __init__(self, asks: Pipe, spares: Pipe, setup: Setup) -> None:
        self.asks, self.spares, self._lock = asks, spares, Lock()
        self.quarantine: dict[tuple[int, str, int], Quarantined] = {}
        filler = replace(setup.filler, quarantine=self.quarantine)
        self.maker = ThreadMaker(filler, open_fetchers(filler.storages, setup.options), setup.options.threads)

    def run(self) -> None:
        """Until the other end is closed."""
        while True:
            ask: Ask = self.asks.receive()
            self.quarantine.update((sample.place, sample) for sample in ask.damaged)
            try:
                made = self.maker.make(ask.part, partial(self._spare, ask.number))
            except (OSError, RuntimeError, ValueError, MemoryError) as error:
                self._fail(ask.number, error)
            else:
                made.add_done_callback(partial(self._answer, ask.number))

    def _spare(self, number: int, slot: int, attempt: int) -> Located:
        with self._lock:
            self.spares.send(SpareWanted(number, slot, attempt))
            found: Located = self.spares.receive()
            return found

    def _answer(self, number: int, done: Future[Made]) -> None:
        error = done.exception()
        if error is not None:
            self._fail(number, error)
            return
        buffers: list[pickle.PickleBuffer] = []
        made = pickle.dumps(done.result(), protocol=5, buffer_callback=buffers.append)
        arrays, size = _places([buffer.raw().nbytes for buffer in buffers])
        memory = _shared(buffers, arrays, size)
        try:
            self.asks.send(Answer(number, made, arrays, size), memory)
        finally:
            os.close(memory)

    def _fail(self, number: int, error: BaseException) -> None:
        self.asks.send(Failure(number, _portable(error)))


def _portable(error: BaseException) -> BaseException:
    """The error, or one that says the same if it can't be sent."""
    try:
        sent: BaseException = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own)
    except (pickle.PicklingError, TypeError, AttributeError):
        return OSError(f"{type(error).__name__}: {error}")
    return sent


def _places(sizes: Sequence[int]) -> tuple[tuple[tuple[int, int], ...], int]:
    """Where arrays of so many bytes begin and end, one after another, and where the last ends."""
    places, at = [], 0
    for size in sizes:
        places.append((at, at + size))
        at = -(-(at + size) // _ALIGNED) * _ALIGNED
    return tuple(places), max(at, 1)


def _shared(buffers: Sequence[pickle.PickleBuffer], places: Sequence[tuple[int, int]], size: int) -> int:
    """Memory with the arrays in it, as a descriptor: it is gone when nobody has it open, whoever is killed."""
    descriptor = os.memfd_create("inlay-batch")
    os.ftruncate(descriptor, size)
    with mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE) as memory:
        for buffer, (start, stop) in zip(buffers, places, strict=True):
            memory[start:stop] = buffer.raw()
    return descriptor


def main(asks: int, spares: int) -> None:
    """Make batches, until the process that began this one wants no more or is gone."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all of a job: the trainer says when to end
        signal.signal(number, signal.SIG_IGN)
    use_one_thread()
    pipe = Pipe(Connection(asks))
    try:
        setup = _setup(pipe)
        if setup is not None:
            Reader(pipe, Pipe(Connection(spares)), setup).run()
    except (EOFError, ConnectionError):
        os._exit(0)


def _setup(asks: Pipe) -> Setup | None:
    """What the other end sends first; ``None`` if it can't be loaded here, of which the other end is told."""
    try:
        setup: Setup = asks.receive()
    except (ImportError, AttributeError) as error:
        asks.send(Failure(NO_BATCH, error))
        return None
    return setup


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
