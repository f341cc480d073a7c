"""The unit record: what was done to a unit, and the commit of the files it names."""

import json
from dataclasses import dataclass
from functools import cache

import msgspec

from manifests.histogram import EMPTY, Histogram
from manifests.record import to_plain
from manifests.shard import check_version


@dataclass(frozen=True, slots=True, kw_only=True)
class HostErrors:
    """How many records failed at one host (``name:port``) for one reason."""

    host: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCount:
    """What one step did to one unit: records in, out, and the seconds ``process`` took.

    Attributes:
        downloaded: Bytes of the files it fetched, of records that it let through.
        batches: Seconds of each call of ``process``; empty in records of older runs, as all below.
        records: Seconds of single records, of stages that tell: of fetch, each URL from its first request on.
        hosts: The hosts at which most records failed, the worst first, of steps that download.
    """

    node: str
    records_in: int
    records_out: int
    seconds: float
    downloaded: int = 0
    batches: Histogram = EMPTY
    records: Histogram = EMPTY
    hosts: tuple[HostErrors, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """How many records of a unit one step dropped or failed for one reason."""

    kind: str
    node: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """Rows that a unit rejected and a later one tried again, by key: from then on the later one accounts for them.

    ``rejections`` is what they were rejected for.
    """

    unit: int
    keys: tuple[str, ...]
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedUnit:
    """A unit whose samples went into a larger shard: how many rows and samples of it, and its own shard's digest."""

    unit: int
    rows: int
    kept: int
    tar_sha256: str


RUN_FILE, SHARD_FOLDER, UNIT_FOLDER = "run.json", "shards", "units"
"""Where an output folder says what its run is, has its tars with indices, and the unit records that commit them."""


def unit_name(number: int) -> str:
    """Stem of every file a unit writes."""
    return f"{number:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """The commit of one unit: once this file is there the unit is done, and what it names is on disk.

    ``kept`` + the rejections' counts = ``rows``, always. Sizes are bytes; ``finished_at`` is UTC, ISO 8601.

    Attributes:
        attempt: 1, or more if its rows were tried again by ``python -m pipeline retry``; ``supersedes`` then says
            which, and ``stop`` how many.
        packed: The units it was packed of, in order, by ``python -m pipeline pack``; ``start`` and ``stop`` then count
            the rows of the folder's shards one after another.
        index_size: Bytes of the index; 0 in records of older runs. ``rejects_size`` likewise.
    """

    schema_version: int
    unit: int
    source: str
    start: int
    stop: int
    fingerprint: str
    rows: int
    kept: int
    rejections: tuple[Rejection, ...]
    steps: tuple[StepCount, ...]
    tar_size: int
    tar_sha256: str
    index_sha256: str
    rejects_sha256: str | None
    finished_at: str
    attempt: int = 1
    supersedes: tuple[Superseded, ...] = ()
    packed: tuple[PackedUnit, ...] = ()
    index_size: int = 0
    rejects_size: int = 0

    @property
    def written(self) -> int:
        """Bytes of shard, index and rejects."""
        return self.tar_size + self.index_size + self.rejects_size

    @property
    def name(self) -> str:
        """Stem of the unit's files."""
        return unit_name(self.unit)

    def to_json(self) -> str:
        """The record as an indented JSON document."""
        return json.dumps(to_plain(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "UnitRecord":
        """The record :meth:`to_json` wrote.

        Raises:
            SchemaVersionError: If a newer Inlay wrote it.
            ValueError: If it is none.
        """
        try:
            record: UnitRecord = _records().decode(text)
        except msgspec.DecodeError as error:
            check_version(_version(text), where)
            raise ValueError(str(error)) from error
        check_version(record.schema_version, where)
        return record


@cache
def _records() -> "msgspec.json.Decoder[UnitRecord]":
    return msgspec.json.Decoder(UnitRecord)


def _version(text: str | bytes) -> int:
    """Which schema a document says it follows; 0 if it says none."""
    plain = json.loads(text)
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    return version if isinstance(version, int) else 0
