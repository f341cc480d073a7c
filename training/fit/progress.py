"""Progress of a run for whoever looks at it: a line that changes on a terminal, plain lines elsewhere."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.fit.figures import Log

_SHOWN = ("loss", "grad_norm", "samples_per_s", "data_wait", "mfu", "skipped")
_IF_ANY = ("cut",)
"""Shown where they are above 0: what a person is to know, and is seldom there."""


class Lines:
    """A line of text whenever figures are noted."""

    def __init__(self, steps: int, file: TextIO) -> None:
        self.steps, self.file = steps, file

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Show figures after so many steps."""
        print(f"step {step}/{self.steps}  {summary(values)}", file=self.file, flush=True)


class Bar:
    """A bar with the newest figures beside it."""

    def __init__(self, progress: Progress, steps: int) -> None:
        self.progress, self.task = progress, progress.add_task("fit", total=steps, note="")

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Show figures after so many steps."""
        self.progress.update(self.task, completed=step, note=summary(values))


@contextmanager
def shown(steps: int, file: TextIO) -> Iterator[Log]:
    """Progress of a run of so many steps, shown on a stream as suits it."""
    console = Console(file=file)
    if not console.is_terminal:
        yield Lines(steps, file)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        yield Bar(progress, steps)


def summary(values: Mapping[str, float]) -> str:
    """The figures that tell how a run goes, in words of one line."""
    there = [name for name in _SHOWN if name in values] + [name for name in _IF_ANY if values.get(name, 0) > 0]
    return "  ".join(f"{name} {values[name]:.4g}" for name in there)
