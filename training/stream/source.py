"""A data set as it stands on disk: which units are committed, and their entries in this machine's catalog."""

import fcntl
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.shard import check_version
from manifests.unit_record import RUN_FILE, SHARD_FOLDER, UNIT_FOLDER, UnitRecord
from training.stream.buckets import Buckets
from training.stream.catalog import Catalog, UnitIndex
from training.stream.diskcache import CachedStorage
from training.stream.names import read_names
from training.stream.scan import scan_tars
from training.stream.snapshot import DatasetError, Fingerprint, Snapshot
from training.stream.storage import FileStat, LocalStorage, Storage, open_storage

_READERS, _AT_ONCE = 16, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One of the data sets that a stream draws from.

    Attributes:
        url: A local folder or an fsspec URL: a run's output folder, or a folder of plain WebDataset tars.
        repeats: How often an epoch goes through it; may be broken, and below 1.
        weight: Its share of an epoch's samples, in any unit; instead of ``repeats``, and for all data sets or none.
    """

    url: str
    repeats: float = 1.0
    weight: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("repeats", self.repeats), ("weight", self.weight)):
            if value is not None and not (0 < value < math.inf and _exact(value)):
                raise ValueError(
                    f"{self.url}: {name} must be above 0 in whole millionths, and finite, got {value}; "
                    "leave the data set out instead"
                )


def repeats_of(datasets: Sequence[Dataset], samples: Sequence[int]) -> tuple[Fraction, ...]:
    """How often an epoch goes through each data set. With weights, an epoch has as many samples as there are in all.

    Raises:
        ValueError: If some data sets have weights and some haven't.
    """
    weights = [dataset.weight for dataset in datasets if dataset.weight is not None]
    if not weights:
        return tuple(_exact(dataset.repeats) for dataset in datasets)
    if len(weights) < len(datasets):
        raise ValueError("either all data sets have a weight or none; give the others theirs")
    total = sum(map(_exact, weights))
    shares = [_exact(weight) / total * sum(samples) for weight in weights]
    return tuple(share / max(count, 1) for share, count in zip(shares, samples, strict=True))


def _exact(number: float) -> Fraction:
    return Fraction(number).limit_denominator(1_000_000)


class Source:
    """A data set opened on this machine."""

    def __init__(self, url: str, cache: Path, cache_bytes: int = 0) -> None:
        self.url = url
        self.storage: Storage = open_storage(url)
        if cache_bytes and not isinstance(self.storage, LocalStorage):
            self.storage = CachedStorage(self.storage, cache / "chunks", cache_bytes)
        self.folder = cache / "catalogs" / hashlib.sha256(self.storage.url.encode()).hexdigest()[:32]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.catalog = Catalog(self.folder)

    def refresh(self) -> list[str]:
        """Names of all units there are now, after entering into the catalog those that it doesn't have.

        Raises:
            DatasetError: If there are none.
        """
        listed = self._listing()
        if not listed:
            raise DatasetError(
                f"{self.url}: no committed units and no tars here; wait for the engine's first unit, or correct the URL"
            )
        if self._missing(listed):
            with _locked(self.folder / ".lock"):
                self.catalog.reload()
                if missing := self._missing(listed):
                    self.catalog.add(self._indices({name: listed[name] for name in missing}))
        return sorted(listed)

    def freeze(self, names: Sequence[str], buckets: Buckets) -> Snapshot:
        """The snapshot of these units."""
        return Snapshot(self.url, self.catalog, names, buckets)

    def restore(self, stated: Fingerprint, buckets: Buckets) -> Snapshot:
        """The snapshot that a state speaks of.

        Raises:
            DatasetError: If its units are gone or changed.
        """
        there, names = set(self.refresh()), read_names(stated.units)
        gone = [name for name in names if name not in there]
        if gone:
            raise DatasetError(
                f"{self.url} lacks {len(gone)} of the {len(names)} units that the state names, {gone[0]} first; "
                "put them back to resume, or start a new run without the state"
            )
        snapshot = self.freeze(names, buckets)
        snapshot.check(stated)
        return snapshot

    def _missing(self, listed: Mapping[str, str]) -> list[str]:
        known = self.catalog.known()
        return sorted(name for name, identity in listed.items() if name not in known or known[name][2] != identity)

    @property
    def _is_run(self) -> bool:
        return UNIT_FOLDER in self.storage.names("")

    def _listing(self) -> dict[str, str]:
        """The units there are, by name, with what changes when they do.

        Raises:
            DatasetError: If it is a folder within a run, whose tars need not be committed.
        """
        if not self._is_run and (run := self._run_around()):
            raise DatasetError(f"{self.url} is the shards' folder of a run, committed or not; give the run: {run}")
        folder, suffix = (UNIT_FOLDER, ".json") if self._is_run else ("", ".tar")
        files = self.storage.listing(folder)
        units = {name: stat for name, stat in files.items() if name.endswith(suffix) and not name.startswith(".")}
        if folder:  # units of a run are called by a number; not so a copy beside them, as some tools leave
            units = {name: stat for name, stat in units.items() if name.removesuffix(suffix).isdecimal()}
        if not all(stat.version for stat in units.values()):  # HTTP's listings are links and no more
            units = self._asked(folder, list(units))
        return {name.removesuffix(suffix): f"{stat.size} {stat.version}" for name, stat in units.items()}

    def _run_around(self) -> str | None:
        """The run whose shards this folder holds."""
        parent, _, name = self.storage.url.rstrip("/").rpartition("/")
        if name != SHARD_FOLDER:
            return None
        above = open_storage(parent)
        try:
            return parent if RUN_FILE in above.names("") else None
        except OSError:  # what lies above need not be anybody's to list
            return None
        finally:
            above.close()

    def _asked(self, folder: str, names: Sequence[str]) -> dict[str, FileStat]:
        """Size and version of files, asked for one by one, several at a time."""
        with ThreadPoolExecutor(_READERS) as pool:
            stats = pool.map(self.storage.stat, (f"{folder}/{name}".lstrip("/") for name in names))
            return dict(zip(names, stats, strict=True))

    def _indices(self, units: Mapping[str, str]) -> Iterator[UnitIndex]:
        """The indices of units, in the order of their names."""
        if not self._is_run:
            yield from self._scanned(units)
            return
        names = list(units)
        with ThreadPoolExecutor(_READERS) as pool:
            for first in range(0, len(names), _AT_ONCE):
                some = names[first : first + _AT_ONCE]
                yield from pool.map(self._committed, some, [units[name] for name in some])

    def _committed(self, name: str, identity: str) -> UnitIndex:
        record_path, path = f"{UNIT_FOLDER}/{name}.json", f"{SHARD_FOLDER}/{name}.parquet"
        record = UnitRecord.from_json(self.storage.read(record_path).decode(), f"{self.url}/{record_path}")
        data = self.storage.read(path)
        digest = hashlib.sha256(data).hexdigest()
        if digest != record.index_sha256:
            raise DatasetError(
                f"{self.url}/{path}: not the index that {record_path} names; python -m pipeline verify shows what else "
                "is damaged, and deleting the unit's record and running again makes the unit anew"
            )
        table = pq.read_table(pa.BufferReader(data))
        check_version(int((table.schema.metadata or {}).get(b"schema_version", b"0")), f"{self.url}/{path}")
        return UnitIndex(name=name, path=f"{SHARD_FOLDER}/{name}.tar", identity=identity, digest=digest, table=table)

    def _scanned(self, units: Mapping[str, str]) -> Iterator[UnitIndex]:
        paths = [f"{name}.tar" for name in units]
        for (name, identity), path, table in zip(units.items(), paths, scan_tars(self.storage, paths), strict=True):
            digest, table = _digest_of(table), _with_name(table, name)
            yield UnitIndex(name=name, path=path, identity=identity, digest=digest, table=table)


def _with_name(table: pa.Table, name: str) -> pa.Table:
    """Keys with their tar's name before them: many data sets count from 0 in every tar."""
    keys = pc.binary_join_element_wise(pa.scalar(name), table["key"], "/")
    return table.set_column(0, table.schema.field("key"), keys)


def _digest_of(table: pa.Table) -> str:
    columns = [table[name].to_pylist() for name in ("key", "member", "offset", "size", "crc32", "width", "height")]
    return hashlib.sha256(repr(columns).encode()).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process of this machine at a time; the lock goes with its process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
