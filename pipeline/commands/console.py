"""What all commands share: places, one message for what a user can correct, exit codes."""

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from manifests.dag import ManifestError
from manifests.files import AnyPath, open_path
from manifests.shard import SchemaVersionError
from pipeline.actor import FatalError
from pipeline.duplicates.dedup import DedupError
from pipeline.forecast.arithmetic import ForecastError
from pipeline.ledger import ResumeError
from pipeline.lists import ListError
from pipeline.members import MemberError
from pipeline.packing.split import SplitError
from pipeline.packing.unpacked import PackError
from pipeline.pairing.vectors import PairError
from pipeline.retrying.retry_plan import RetryError
from pipeline.sources.base import SourceError
from stages.features import FeatureError

_USER_ERRORS = (
    DedupError,
    FatalError,
    FeatureError,
    ForecastError,
    ListError,
    ManifestError,
    MemberError,
    OSError,
    PackError,
    PairError,
    ResumeError,
    RetryError,
    SchemaVersionError,
    SourceError,
    SplitError,
)


_WRITTEN = ("file", "local", "s3", "s3a", "gs", "gcs")

EXIT_INCOMPLETE, EXIT_USER, EXIT_INTERRUPTED = 1, 2, 130


@contextmanager
def readable_errors() -> Iterator[None]:
    """Turn what a user can correct into one message and exit code 2."""
    try:
        yield
    except _USER_ERRORS as error:
        Console(stderr=True).print(f"error: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_USER) from None


def place_of(where: str) -> AnyPath:
    """A folder, or a URL that some store answers for."""
    try:
        return open_path(where)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def written_place(where: str) -> AnyPath:
    """As :func:`place_of`, to write to: a folder, or a store in which an object is created only where there is none."""
    place = place_of(where)
    protocol, is_url, _ = where.partition("://")
    if is_url and protocol not in _WRITTEN:
        raise typer.BadParameter(f"{where}: nothing is written to {protocol}://; give a folder, s3://… or gs://…")
    return place
