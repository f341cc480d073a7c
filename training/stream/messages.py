"""What a process and its readers tell each other."""

import os
import pickle
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from threading import Lock
from typing import Any, NamedTuple

from training.stream.fill import Filler
from training.stream.making import Part
from training.stream.options import StreamOptions
from training.stream.state import Quarantined

NO_BATCH = -1
"""Number of a failure that no batch had."""


class Setup(NamedTuple):
    """What a reader must know before the first batch; the filler comes without its quarantine."""

    filler: Filler
    options: StreamOptions


class Ask(NamedTuple):
    """A batch wanted, and the samples that were found damaged since the last one."""

    number: int
    part: Part
    damaged: tuple[Quarantined, ...]


class SpareWanted(NamedTuple):
    """The sample that stands in at a slot of a batch is wanted; the answer comes by the pipe for spares."""

    number: int
    slot: int
    attempt: int


class Answer(NamedTuple):
    """A batch made: all but its arrays, and where those are in the memory whose descriptor follows."""

    number: int
    made: bytes
    arrays: tuple[tuple[int, int], ...]
    size: int


class Failure(NamedTuple):
    """A batch that could not be made."""

    number: int
    error: BaseException


class Pipe:
    """An end of a pipe that several threads write to. What is sent is our own process's: pickled."""

    def __init__(self, connection: Connection) -> None:
        self.connection, self._lock = connection, Lock()

    def send(self, message: object, descriptor: int | None = None) -> None:
        """Send a message; and a file's descriptor after it, to the process with this one's parent's number."""
        data = pickle.dumps(message, protocol=5)
        with self._lock:
            self.connection.send_bytes(data)
            if descriptor is not None:
                send_handle(self.connection, descriptor, os.getppid())

    def receive(self) -> Any:
        """The next message.

        Raises:
            EOFError: If the other end is closed.
        """
        return pickle.loads(self.connection.recv_bytes())  # noqa: S301  (what our own process sent)
