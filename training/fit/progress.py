"""What a run tells people while it goes: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from training.fit.track import Start

_LINE_EVERY_S = 10.0
_SHOWN = {
    "loss": "loss {:.4g}",
    "grad_norm": "grad {:.3g}",
    "samples_per_s": "{:,.1f} samples/s",
    "data_wait": "{:.1%} data wait",
    "mfu": "{:.1%} MFU",
    "memory_gib": "{:.1f} GiB",
}
"""By figure, how it is shown; others are for the log."""


class Terminal:
    """A bar with the newest figures where there is a terminal, else a line at most every ten seconds and at the end."""

    def __init__(self, start: Start, console: Console, every_s: float = _LINE_EVERY_S) -> None:
        self.start, self.console, self.every_s = start, console, every_s
        self.said = -every_s
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
        self.bar = Progress(*columns, TextColumn("{task.fields[note]}"), TimeRemainingColumn(), console=console)
        self.task = self.bar.add_task(start.name, total=start.steps, completed=start.step, note="")

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Show how far the run is meanwhile."""
        if self.console.is_terminal:
            with self.bar:
                yield
        else:
            yield

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Show figures after so many steps."""
        if self.console.is_terminal:
            self.bar.update(self.task, completed=step, note=line(values))
        elif time.monotonic() - self.said >= self.every_s or step >= self.start.steps:
            self.said = time.monotonic()
            text = f"{self.start.name}: step {step:,} of {self.start.steps:,}; {line(values)}"
            self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def line(values: Mapping[str, float]) -> str:
    """The figures that people look at, in words."""
    return ", ".join(form.format(values[name]) for name, form in _SHOWN.items() if name in values)
