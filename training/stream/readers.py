"""Reader processes: they make batches beside this process, whose Python they leave to the trainer."""

import mmap
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from itertools import count
from multiprocessing import connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from threading import Lock, Thread

import numpy as np

from training.stream.fill import Filler, Spare
from training.stream.making import Made, Maker, Part
from training.stream.messages import NO_BATCH, Answer, Ask, Failure, Pipe, Setup, SpareWanted
from training.stream.options import StreamOptions
from training.stream.state import Quarantined
from training.stream.tensors import allocate_pinned

_PATIENCE_S = 5.0
"""For a reader to end by itself."""


_TIMES = slice(11, 13)
"""Where ``/proc/PID/stat`` has user and system time, counted after the command's name: proc_pid_stat(5)."""


class ReaderError(RuntimeError):
    """A reader process ended; the message says how, and what may help."""


class Readers(Maker):
    """Makes batches in processes, one after the other in each; they start with the first batch.

    Args:
        filler: What each fills places with.
        options: How they read; each has an equal share of what may be read ahead.

    Raises:
        OSError: If this system can't share memory by descriptor.
    """

    def __init__(self, filler: Filler, options: StreamOptions) -> None:
        if not hasattr(os, "memfd_create"):
            raise OSError("reader processes need Linux; with readers=0, threads of this process read")
        self._filler, self._options = filler, options
        self._readers: list[_Reader] = []
        self._numbers = count()

    def make(self, part: Part, spare: Spare) -> Future[Made]:
        """See :meth:`Maker.make`; each reader in its turn."""
        if not self._readers:
            setup = pickle.dumps(_setup(self._filler, self._options), protocol=5)
            known = self._filler.quarantine
            self._readers = [_Reader(setup, known, self._options.pin) for _ in range(self._options.readers)]
        number = next(self._numbers)
        return self._readers[number % len(self._readers)].make(number, part, spare)

    def cpu_s(self) -> float:
        """See :meth:`Maker.cpu_s`."""
        return sum(reader.cpu_s() for reader in self._readers)

    def close(self) -> None:
        """See :meth:`Maker.close`."""
        for reader in self._readers:
            reader.hang_up()
        for reader in self._readers:
            reader.join()
        for storage in self._filler.storages:
            storage.close()


def _setup(filler: Filler, options: StreamOptions) -> Setup:
    shared = {name: max(1, getattr(options, name) // options.readers) for name in ("read_ahead_bytes", "connections")}
    return Setup(replace(filler, quarantine={}), replace(options, **shared, readers=0, pin=False))


class _Reader:
    """A reader process, as seen from here."""

    def __init__(self, setup: bytes, quarantine: Mapping[tuple[int, str, int], Quarantined], pins: bool) -> None:
        self._pins = pins
        self._quarantine = quarantine
        self._told = 0  # of the quarantine
        self._is_closed = False
        self._waiting: dict[int, tuple[Future[Made], Spare]] = {}
        self._lock = Lock()
        self._ended: ReaderError | None = None
        ours, theirs = zip(*(connection.Pipe() for _ in range(2)), strict=True)
        numbers = [end.fileno() for end in theirs]
        self._process = subprocess.Popen(  # noqa: S603  (our own words)
            [sys.executable, "-m", "training.stream.reader", *map(str, numbers)],
            pass_fds=numbers,
            process_group=0,  # an interrupt at the terminal is the trainer's
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        )
        for end in theirs:
            end.close()
        self._asks, self._spares = map(Pipe, ours)
        self._asks.connection.send_bytes(setup)
        self._listener = Thread(target=self._listen, name="inlay-reader", daemon=True)
        self._listener.start()

    def make(self, number: int, part: Part, spare: Spare) -> Future[Made]:
        """Ask for a batch."""
        damaged = tuple(self._quarantine.values())[self._told :]
        self._told += len(damaged)
        made: Future[Made] = Future()
        with self._lock:
            if self._ended:
                made.set_exception(self._ended)
                return made
            self._waiting[number] = made, spare
        with suppress(OSError):  # it has ended: the listener says so
            self._asks.send(Ask(number, part, damaged))
        return made

    def cpu_s(self) -> float:
        """CPU seconds that it has spent, as long as it lives."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return sum(map(int, fields[_TIMES])) / os.sysconf("SC_CLK_TCK")

    def hang_up(self) -> None:
        """Let it end."""
        self._is_closed = True
        self._shut()

    def join(self) -> None:
        """Wait until it has ended."""
        self._listener.join()
        for pipe in (self._asks, self._spares):
            pipe.connection.close()

    def _shut(self) -> None:
        for pipe in (self._asks, self._spares):
            with socket.socket(fileno=os.dup(pipe.connection.fileno())) as end, suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)  # unlike a close it wakes who waits

    def _exit_code(self) -> int:
        """Of the process, which is given some time to end by itself."""
        self._shut()
        try:
            return self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _listen(self) -> None:
        """Take what it sends, until it ends."""
        error: BaseException | None = None
        try:
            while error is None:
                ready = connection.wait([self._asks.connection, self._spares.connection])
                if self._spares.connection in ready:
                    self._give_spare()
                else:
                    error = self._take()
        except (EOFError, OSError):
            pass  # it has ended, or is to end
        finally:
            self._end(error)

    def _give_spare(self) -> None:
        wanted: SpareWanted = self._spares.receive()
        self._spares.send(self._waiting[wanted.number][1](wanted.slot, wanted.attempt))

    def _take(self) -> BaseException | None:
        """Hand on a batch, or what went wrong with it; give what went wrong with the reader."""
        message: Answer | Failure = self._asks.receive()
        if isinstance(message, Failure) and message.number == NO_BATCH:
            return message.error
        made, _ = self._waiting.pop(message.number)
        if isinstance(message, Failure):
            made.set_exception(message.error)
            return None
        try:
            descriptor: int = recv_handle(self._asks.connection)
            made.set_result(_loaded(message, descriptor, self._pins))
        except (MemoryError, RuntimeError) as error:
            made.set_exception(error)
        return None

    def _end(self, error: BaseException | None) -> None:
        """Let nobody wait for it."""
        ended = ReaderError(_explained(self._exit_code(), error))
        with self._lock:
            self._ended = ended
        for made, _ in self._waiting.values():
            if not (self._is_closed and made.cancel()):
                made.set_exception(ended)
        self._waiting.clear()


def _explained(code: int, error: BaseException | None) -> str:
    if error is not None:
        return (
            f"a reader process can't begin: {error!r}. A recipe's parts must be in modules that it can import, not in "
            "a script; with readers=0, threads of this process read"
        )
    how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return (
        f"a reader process {how}. If that was for want of memory (signal 9), lower readers, prefetch or "
        "read_ahead_bytes; the run goes on from its last checkpoint"
    )


def _loaded(answer: Answer, descriptor: int, pins: bool) -> Made:
    """A batch whose arrays lie in the reader's memory, or pinned."""
    memory = mmap.mmap(descriptor, answer.size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE)
    os.close(descriptor)
    view = memoryview(memory)
    if pins:
        pinned = allocate_pinned((answer.size,), np.uint8)
        pinned[...] = np.frombuffer(memory, np.uint8)
        view = pinned.data
    arrays = [view[start:stop] for start, stop in answer.arrays]
    made: Made = pickle.loads(answer.made, buffers=arrays)  # noqa: S301  (what our own process sent)
    return made
