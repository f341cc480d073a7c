"""How far long work is that is no run: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

Told = Callable[[int, int], None]
"""Told how much is done, and how much there is."""

_LINE_EVERY_S = 10.0
_BAR_EVERY_S = 0.1


@contextmanager
def telling(console: Console, what: str, say: Callable[[int], str] = decimal) -> Iterator[Told]:
    """Somebody to tell of work ``what``, in amounts as ``say`` words them: bytes, unless told otherwise."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        task = bars.add_task(what, total=None, note="")
        every_s = _BAR_EVERY_S if console.is_terminal else _LINE_EVERY_S
        last = time.monotonic()

        def told(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last < every_s and done < total:
                return
            last, note = time.monotonic(), f"{say(done)} of {say(total)}"
            bars.update(task, completed=done, total=total, note=note)
            if not console.is_terminal:
                console.print(f"{what}: {note}", highlight=False)

        yield told


def rows(count: int) -> str:
    """An amount of rows in words."""
    return f"{count:,} rows"


def units(count: int) -> str:
    """An amount of units in words."""
    return f"{count:,} units"
