"""The rows of the scorecard as a Parquet file, and a picture on this machine that nobody may read."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bad_input.cases import Case
from benchmarks.bad_input.pictures import make

_SECRET_SEED = 7777


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run's rows point: the server's URL, a port that nobody listens on, a picture on this machine."""

    base: str
    refused: int
    secret: Path


def url_of(cases: Sequence[Case], number: int, who: str, place: Place) -> str | None:
    """The URL of a row; each contender's are its own, so that the server can tell first requests."""
    case = cases[number]
    if case.url is None:
        return None
    path = f"/{who}/{case.serve}/{case.file}/{number - case.repeats}"
    return case.url.format(base=place.base, path=path, refused=place.refused, secret=place.secret)


def write_rows(path: Path, cases: Sequence[Case], who: str, place: Place) -> None:
    """Write the rows under the names that both contenders know."""
    columns = {
        "row": pa.array(range(len(cases)), pa.int64()),
        "URL": pa.array([url_of(cases, number, who, place) for number in range(len(cases))], pa.string()),
        "TEXT": pa.array([case.caption for case in cases], pa.string()),
    }
    pq.write_table(pa.table(columns), path)


@dataclass(slots=True)
class Secret:
    """A picture behind a named pipe: it can be read like any file, and whoever opens it is noticed."""

    path: Path
    readers: int = 0
    _is_over: threading.Event = field(default_factory=threading.Event)

    def _watch(self) -> None:
        data = make("jpeg", _SECRET_SEED).data
        while not self._is_over.wait(0.002):
            try:
                pipe = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:  # nobody has it open
                continue
            self.readers += 1
            os.set_blocking(pipe, True)
            with os.fdopen(pipe, "wb") as file:
                file.write(data)


@contextmanager
def secret(path: Path) -> Iterator[Secret]:
    """Lay the picture out, and watch it as long as this is open."""
    os.mkfifo(path)
    watched = Secret(path)
    watcher = threading.Thread(target=watched._watch, daemon=True)
    watcher.start()
    try:
        yield watched
    finally:
        watched._is_over.set()
        watcher.join()
        path.unlink()
