"""Figures of a run: JSON lines always, a terminal's bar or lines, and trackers where they are asked for."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from training.fit.figures import Log
from training.fit.progress import Terminal
from training.fit.track import Start, Tracker, open_tracker

LOG = "log.jsonl"


class JsonLines:
    """A line a step in ``log.jsonl`` of a run's folder, which only grows.

    Each line says which attempt wrote it: 1 for a new run, one more each time it goes on. What a later attempt came
    past again is superseded, as :func:`read_log` knows. Values that are no finite number are ``null``.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / LOG
        self.attempt = 1 + max((line.attempt for line in _lines(self.path)), default=0)
        _end_line(self.path)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "attempt": self.attempt, **finite}) + "\n")


@dataclass(frozen=True, slots=True)
class LogLine:
    """Figures after a step; NaN for what was no finite number."""

    step: int
    attempt: int
    values: Mapping[str, float]


def read_log(folder: Path) -> tuple[LogLine, ...]:
    """The figures of a run, each step's once: as the last attempt that came there saw it."""
    kept: list[LogLine] = []
    for line in _lines(folder / LOG):
        while kept and kept[-1].step >= line.step:
            kept.pop()
        kept.append(line)
    return tuple(kept)


def _lines(path: Path) -> Iterator[LogLine]:
    """All whole lines; one that a crash cut short is none."""
    if not path.exists():
        return
    for text in path.read_text().splitlines():
        with suppress(json.JSONDecodeError):
            plain = json.loads(text)
            step, attempt = plain.pop("step"), plain.pop("attempt")
            yield LogLine(step, attempt, {name: math.nan if v is None else v for name, v in plain.items()})


def _end_line(path: Path) -> None:
    """Let what comes begin on a line of its own."""
    if path.exists() and path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        with path.open("a") as file:
            file.write("\n")


@dataclass(frozen=True, slots=True)
class Logs:
    """Several places as one."""

    places: tuple[Log, ...]

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        for place in self.places:
            place.step(step, values)


@contextmanager
def opened_log(start: Start, trackers: Sequence[Tracker], console: Console | None = None) -> Iterator[Log]:
    """Where a run's figures go, for as long as it lasts.

    Args:
        start: Of the run, new or resumed.
        trackers: Asked for beside the JSON lines.
        console: To tell people on; stderr if none is given.

    Raises:
        ImportError: If a tracker is not installed; the message says how to get it.
    """
    tracking = [open_tracker(name, start) for name in trackers]
    terminal = Terminal(start, console or Console(stderr=True))
    with terminal.watching():
        try:
            yield Logs((JsonLines(start.folder), terminal, *tracking))
        finally:
            for tracker in tracking:
                tracker.close()
