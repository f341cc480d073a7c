"""What all commands show: one message for what a user can correct, and progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from manifests.shard import SchemaVersionError
from training.commands.ranks import speaker_of
from training.stream.snapshot import DatasetError

_USER_ERRORS = (DatasetError, SchemaVersionError, OSError, ValueError, ImportError)
_EXIT_USER = 2


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what a user can correct into one message and exit code 2; of processes that train together one tells it."""
    try:
        yield
    except _USER_ERRORS as error:
        with speaker_of(str(error)) as speaker:
            if speaker is not None:
                _tell(f"{speaker}error: {error}")
        raise typer.Exit(_EXIT_USER) from None


def _tell(message: str) -> None:
    Console(stderr=True).print(message, style="bold red", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(title: str, total: float) -> Iterator[Callable[[float, float, str], None]]:
    """A progress bar on stderr, told how much is done of how much, and a word to it."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total, note="")
        yield lambda done, total, note: progress.update(task, completed=done, total=total, note=escape(note))
