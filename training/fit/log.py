"""Figures of a run as JSON lines, which are only ever added to.

Each line has the ``step`` and the ``attempt``, counted from 1, that it was written in. An attempt that goes on from a
checkpoint may repeat steps of the one before: of lines of the same step, the last counts. What is no finite number is
``null``.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

from training.config import Recipe
from training.fit.figures import Log
from training.fit.progress import shown
from training.fit.tracking import Tracker, trackers

NAME = "log.jsonl"


class JsonLines:
    """A line a step in ``log.jsonl`` of a run's folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.attempt = max((int(line["attempt"]) for line in _lines(self.path)), default=0) + 1
        self.is_torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n")

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        text = json.dumps({"step": step, "attempt": self.attempt, **finite}) + "\n"
        with self.path.open("a") as file:
            file.write("\n" + text if self.is_torn else text)
        self.is_torn = False


class Logs:
    """Several logs as one."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self.logs = logs

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        for log in self.logs:
            log.step(step, values)


@contextmanager
def open_logs(folder: Path, recipe: Recipe, track: Sequence[Tracker], step: int, file: TextIO | None) -> Iterator[Log]:
    """Where figures of a run go that begins after ``step``: its own log, trackers, and ``file`` for people to read."""
    with ExitStack() as stack:
        logs: list[Log] = [JsonLines(folder), *stack.enter_context(trackers(track, folder, recipe, step))]
        if file is not None:
            logs.append(stack.enter_context(shown(recipe.steps, file)))
        yield Logs(logs)


def read_log(folder: Path) -> list[dict[str, float]]:
    """The figures of a run's steps in order: of each step as it was done last, and none that were undone since."""
    kept: dict[int, dict[str, float]] = {}
    for line in _lines(folder / NAME):
        for later in [step for step in kept if step >= line["step"]]:
            del kept[later]
        kept[int(line["step"])] = line
    return [kept[step] for step in sorted(kept)]


def _lines(path: Path) -> Iterator[dict[str, float]]:
    """Lines that are whole; one that a killed process left half is none."""
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            plain = json.loads(text)
        except json.JSONDecodeError:
            continue
        yield {name: math.nan if value is None else value for name, value in plain.items()}
