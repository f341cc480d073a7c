"""Downloading alone: CPU time of the client, with and without latency, of ours and of img2dataset's."""

import sys
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.fetch.costs import read_lines
from benchmarks.fetch.rounds import BATCH

ROUNDS = 5
BATCHES = 4


def download(name: str, python: str, address: str, pictures: int, in_flight: int, *more: str) -> dict[str, Any]:
    """What a file costs one of ``inlay`` and ``img2dataset`` when ``in_flight`` are asked for at once.

    Args:
        name: Whose.
        python: The interpreter of img2dataset's environment.
        address: Of the server.
        pictures: How many different ones it has.
        in_flight: Requests, or threads, at once.
        more: Further words for the contender.
    """
    interpreter = sys.executable if name == "inlay" else python
    numbers = map(str, (pictures, BATCHES, ROUNDS, in_flight))
    command = [interpreter, "-m", f"benchmarks.fetch.download_{name}", address, *numbers, *more]
    return _summary(read_lines(command, {"NO_ALBUMENTATIONS_UPDATE": "1"}))


def _summary(rounds: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    costs = [1e3 * found["cpu_s"] / found["files"] for found in rounds]
    return {
        "cpu_ms": {"min": min(costs), "median": median(costs), "max": max(costs)},
        "files_per_s": median(found["files"] / found["wall_s"] for found in rounds),
        "files": BATCH * BATCHES,
    }
