"""Ends a process that hangs: no exception reaches code that waits in C, perhaps with Python's lock in its hand."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

_STDERR = 2
_POLL_S = 0.5
_GRACE_S = 1.0
"""Between the words and the end: time for the thread that polls to say whose deadline it was."""


class Watchdog:
    """Watches one call at a time while it is open.

    A call that outlives its deadline ends this process with exit code 1 and the stack of every thread on stderr. A
    thread of faulthandler's does so that needs no lock of Python's. Before, if the lock is to be had, a thread of our
    own says what was waited for.

    Attributes:
        where: Begins every message.
    """

    def __init__(self, where: str = "") -> None:
        self.where = where

    def __enter__(self) -> Self:
        self._watched: tuple[float, Callable[[], str]] | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._poll, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed.set()

    @contextmanager
    def watch(self, deadline_s: float, says: Callable[[], str]) -> Iterator[None]:
        """Give what happens inside so many seconds; ``says`` what to write if it takes longer."""
        self._watched = time.monotonic() + deadline_s, says
        faulthandler.dump_traceback_later(deadline_s + _GRACE_S, exit=True, file=_STDERR)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            self._watched = None

    def _poll(self) -> None:
        while not self._closed.wait(_POLL_S):
            watched = self._watched
            if watched and time.monotonic() > watched[0]:
                os.write(_STDERR, f"error: {self.where}{watched[1]()}\n".encode())
                return
