"""Calls into a disk or a store that may never return: given up at a deadline, since no exception ever comes of them."""

import sys
import threading
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class OverdueError(OSError):
    """A call that did not return in time; the message says where it was."""


class _Call(Generic[T]):
    """A call in a thread of its own, which keeps no process from ending."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with self:
            self._result.append(self._call())

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> bool:
        self._error = error
        return True

    def result(self) -> T:
        """What it gave or raised; it has returned."""
        if self._error is not None:
            raise self._error
        return self._result[0]


def within(deadline_s: float, what: str, call: Callable[[], T]) -> T:
    """What the call gives, or raises.

    A call that is overdue goes on in a thread that is left behind; if it comes back, nobody hears of it.

    Raises:
        OverdueError: If it takes longer than ``deadline_s``, beginning with ``what``.
    """
    running = _Call(call)
    running.thread.start()
    running.thread.join(deadline_s)
    if running.thread.is_alive():
        raise OverdueError(f"{what} within {deadline_s:g} s; it is at {_place(running.thread)}")
    return running.result()


def _place(thread: threading.Thread) -> str:
    """Where a thread is, innermost first, in a few words."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return "its end"
    calls = reversed(traceback.extract_stack(frame)[-3:])
    return ", in ".join(f"{call.filename.rsplit('/', 1)[-1]}:{call.lineno} {call.name}" for call in calls)
