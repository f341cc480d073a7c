"""Rounds of downloads in one process, and what each took; imports nothing but the standard library."""

import json
import resource
import sys
import time
from collections.abc import Callable, Sequence

BATCH = 500
"""URLs a batch."""

Download = Callable[[Sequence[str]], None]
"""Downloads all, or raises."""


def run_rounds(download: Download) -> None:
    """Download, as the command line says (address, pictures, batches a round, rounds), and print a line a round.

    A first batch, which opens the connections, is not counted.
    """
    address, pictures, batches, rounds = sys.argv[1], *map(int, sys.argv[2:5])
    urls = [f"{address}/{number % pictures:05}.jpg?row={number}" for number in range(batches * BATCH)]
    download(urls[:BATCH])
    for _ in range(rounds):
        cpu, wall = _cpu_s(), time.perf_counter()
        for start in range(0, len(urls), BATCH):
            download(urls[start : start + BATCH])
        spent = {"cpu_s": _cpu_s() - cpu, "wall_s": time.perf_counter() - wall, "files": len(urls)}
        print(json.dumps(spent), flush=True)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
