"""Figures of a run: what a step was, how fast steps go, and where that is noted."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from training.families.base import Losses
from training.stream.tensors import BatchTensors
from training.stream.world import Group


class Log(Protocol):
    """Where figures of a run go."""

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Note figures after so many steps."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A step as this rank saw it.

    Attributes:
        losses: Of its parts.
        tensors: The last of its parts.
        norm: Of the whole gradient before it was clipped.
        was_taken: Whether parameters moved.
        keys: Of its samples.
        wait_s: Seconds that it waited for data.
    """

    losses: Sequence[Losses]
    tensors: BatchTensors
    norm: float
    was_taken: bool
    keys: tuple[str, ...]
    wait_s: float

    def terms(self, group: Group) -> dict[str, float]:
        """Means of the loss and of its terms over the parts that have them, of all ranks; each rank must ask."""
        rows = [{"loss": float(part.total), **_floats(part.terms)} for part in self.losses]
        values: dict[str, list[float]] = {}
        for name, value in (item for rank in group.gather(rows) for row in rank for item in row.items()):
            values.setdefault(name, []).append(value)
        return {name: sum(each) / len(each) for name, each in values.items()}


@dataclass(slots=True)
class Interval:
    """Time since the last line of the log."""

    began: float = field(default_factory=time.perf_counter)
    wait_s: float = 0.0
    steps: int = 0

    def add(self, outcome: Outcome) -> None:
        """Take in a step."""
        self.steps += 1
        self.wait_s += outcome.wait_s

    def rates(self, batch_size: int, group: Group) -> dict[str, float]:
        """Samples of all ranks a second, seconds a step, and the share of time that ranks waited for data."""
        seconds = time.perf_counter() - self.began
        waits = group.gather(self.wait_s)
        return {
            "samples_per_s": self.steps * batch_size / seconds,
            "step_s": seconds / self.steps,
            "data_wait": sum(waits) / len(waits) / seconds,
        }


def _floats(terms: Mapping[str, object]) -> dict[str, float]:
    return {name: float(value) for name, value in terms.items()}  # type: ignore[arg-type]
