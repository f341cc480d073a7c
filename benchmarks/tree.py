"""What a process and all that it starts take, seen from outside."""

import threading
from types import TracebackType
from typing import Self

import psutil


class Tree:
    """Watches a process and everything below it, while it is open.

    Asked now and then, because the times of the dead are lost: Ray does not wait for its workers. What a process does
    between the last look and its death is missing.

    Attributes:
        peak: Most bytes that all had for themselves at a time, without what they share, such as Ray's store.
    """

    def __init__(self, pid: int, every_s: float = 0.1) -> None:
        self.peak = 0
        self._root = psutil.Process(pid)
        self._every_s = every_s
        self._seconds: dict[tuple[int, float], float] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed.set()
        self._thread.join()

    def cpu_s(self) -> float:
        """CPU seconds of all so far, user and system."""
        self._look()
        return sum(self._seconds.values())

    def _watch(self) -> None:
        while not self._closed.wait(self._every_s):
            self._look()

    def _look(self) -> None:
        try:
            family = [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        self.peak = max(self.peak, sum(map(self._note, family)))

    def _note(self, process: psutil.Process) -> int:
        """Note what it took so far; its bytes."""
        try:
            times, memory = process.cpu_times(), process.memory_info()
        except psutil.Error:
            return 0
        self._seconds[process.pid, process.create_time()] = times.user + times.system
        return int(memory.rss - memory.shared)
