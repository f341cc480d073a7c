"""A command in a process group of its own: how long it took, and the most memory all its processes had at once."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_PAUSE_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended.

    Attributes:
        code: Its exit code; ``None`` if it was killed for not ending in time.
        said: What it wrote, with its errors.
        wall_s: Seconds it took.
        peak_mib: Largest sum over its processes, sampled; pages that they share count a share each.
    """

    code: int | None
    said: str
    wall_s: float
    peak_mib: float


def watch(command: Sequence[str], folder: Path, log: Path, limit_s: float, **environment: str) -> Ended:
    """Run a command, and end all its processes with it, after ``limit_s`` in any case."""
    start, peak = time.monotonic(), 0.0
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 (our own words)
            command,
            cwd=folder,
            env=os.environ | environment,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        tree = psutil.Process(process.pid)
        while process.poll() is None and time.monotonic() - start < limit_s:
            peak = max(peak, _memory(tree))
            time.sleep(_PAUSE_S)
        code = process.poll()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    wall = time.monotonic() - start
    return Ended(code=code, said=log.read_text(errors="replace"), wall_s=wall, peak_mib=peak / 2**20)


def _memory(tree: psutil.Process) -> float:
    total = 0.0
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in [tree, *tree.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
    return total
