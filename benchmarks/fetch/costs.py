"""CPU time of a command and of all processes it starts."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

_EVERY_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Seconds of CPU time, of wall clock, and the most memory that all processes had together, in bytes."""

    cpu_s: float
    wall_s: float
    peak_bytes: int


class CommandError(RuntimeError):
    """A command failed; the message ends with what it said."""


class _Sampler(threading.Thread):
    """Adds up what every process below one has used, also of those that no one waits for, such as Ray's workers."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._cpu: dict[tuple[int, float], float] = {}
        self.peak_bytes = 0
        self.ended = threading.Event()

    @property
    def cpu_s(self) -> float:
        """Seconds seen so far."""
        return sum(self._cpu.values())

    def run(self) -> None:
        """Sample until the command has ended."""
        while not self.ended.wait(_EVERY_S):
            self.peak_bytes = max(self.peak_bytes, sum(map(self._sample, self._all())))

    def _all(self) -> list[Any]:
        try:
            return [self._root, *self._root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _sample(self, process: Any) -> int:
        try:
            times, size = process.cpu_times(), process.memory_info().rss
        except psutil.Error:
            return 0
        self._cpu[process.pid, process.create_time()] = times.user + times.system
        return int(size)


def spend(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Spent:
    """Run a command to its end.

    Its CPU time is the larger of two that both miss something: what the kernel adds up for processes that were waited
    for, and what was seen of all of them five times a second.

    Raises:
        CommandError: If it fails.
    """
    began = time.perf_counter()
    child = subprocess.Popen(  # noqa: S603 (our own words)
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    sampler = _Sampler(child.pid)
    sampler.start()
    said = child.stdout.read() if child.stdout else b""
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    sampler.ended.set()
    sampler.join()
    if child.returncode:
        raise CommandError(f"{' '.join(command)} failed: {said[-2000:].decode(errors='replace')}")
    cpu_s = max(usage.ru_utime + usage.ru_stime, sampler.cpu_s)
    return Spent(cpu_s=cpu_s, wall_s=time.perf_counter() - began, peak_bytes=sampler.peak_bytes)


def read_lines(command: Sequence[str], environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The JSON lines that a command prints; other lines are passed over.

    Raises:
        CommandError: If it fails.
    """
    done = subprocess.run(  # noqa: S603 (our own words)
        command, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise CommandError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
