"""Every sample of a data set read and checked, as the stream would read it."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.table import Table

from training.stream.buckets import Buckets
from training.stream.catalog import Entry
from training.stream.describe import look
from training.stream.example import PICTURE_SUFFIXES, SampleError, parse_example
from training.stream.features import read_features
from training.stream.fetch import ReadAhead, open_fetcher
from training.stream.fill import Read, taken
from training.stream.members import cut_members
from training.stream.pixels import decode, read_header
from training.stream.snapshot import Snapshot
from training.stream.storage import open_storage

_CHUNK = 64
"""Samples that a thread checks in one go: neighbours, so that they are read together."""

_FIRST_KEYS = 5


@dataclass(slots=True)
class Damage:
    """Samples damaged in one way: how many, and the first of them."""

    count: int = 0
    first: list[str] = field(default_factory=list)
    message: str = ""

    def add(self, key: str, message: str) -> None:
        """Take note of one more."""
        self.count += 1
        self.message = self.message or message
        if len(self.first) < _FIRST_KEYS:
            self.first.append(key)


@dataclass(slots=True)
class Verified:
    """What was found: samples read, and damage by reason."""

    samples: int = 0
    damage: dict[str, Damage] = field(default_factory=dict)

    def add(self, key: str, reason: str, message: str) -> None:
        """Take note of a damaged sample."""
        self.damage.setdefault(reason, Damage()).add(key, message)

    @property
    def damaged(self) -> int:
        """Findings of all kinds."""
        return sum(damage.count for damage in self.damage.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """How to verify: in how many threads, whether to decode every picture, and where catalogs are kept."""

    threads: int = 2
    decode: bool = False
    cache: Path


def verify(url: str, options: VerifyOptions, report: Callable[[int, int], None]) -> Verified:
    """Read every sample of a data set, and compare all keys.

    Args:
        url: Its folder or URL.
        options: How.
        report: Told how many samples are done, and how many there are.

    Raises:
        DatasetError: If it is empty, or a unit's index is not the one that was committed.
        OSError: If its storage fails; a tar that is gone is damage instead.
    """
    snapshot = look(url, Buckets(), options.cache)
    verified, total = Verified(), sum(snapshot.counts)
    for checked, errors in _checked(snapshot, options):
        verified.samples += checked
        for key, error in errors:
            verified.add(key, error.reason, str(error))
        report(verified.samples, total)
    for key, units in repeated_keys(snapshot):
        verified.add(key, "key_in_several_units", f"{key} is in units {', '.join(units)}")
    return verified


Errors = list[tuple[str, SampleError]]


def _checked(snapshot: Snapshot, options: VerifyOptions) -> Iterator[tuple[int, Errors]]:
    """How many samples of each chunk were checked, and what was wrong; in order, a bounded number ahead."""
    storage = open_storage(snapshot.url)
    fetcher = open_fetcher(storage, ReadAhead())
    pending: deque[tuple[int, Future[Errors]]] = deque()
    try:
        with ThreadPoolExecutor(options.threads, thread_name_prefix="inlay-verify") as pool:
            for entries in _chunks(snapshot):
                reads = fetcher.submit([entry.range for entry in entries])
                pending.append((len(entries), pool.submit(_errors, entries, reads, options.decode)))
                if len(pending) > 2 * options.threads:
                    yield _result(pending)
            while pending:
                yield _result(pending)
    finally:
        fetcher.close()
        storage.close()


def _result(pending: deque[tuple[int, Future[Errors]]]) -> tuple[int, Errors]:
    count, future = pending.popleft()
    return count, future.result()


def _chunks(snapshot: Snapshot) -> Iterator[list[Entry]]:
    """Neighbouring samples of one tar."""
    for number, unit in snapshot.places:
        part = snapshot.catalog.parts[number]
        rows = part.rows(unit)
        count = rows.stop - rows.start
        for first in range(0, count, _CHUNK):
            yield [part.entry(unit, row) for row in range(first, min(first + _CHUNK, count))]


def _errors(entries: Sequence[Entry], reads: Sequence[Read], decode: bool) -> Errors:
    errors = []
    for entry, read in zip(entries, reads, strict=True):
        try:
            check_sample(entry, _bytes(entry, read), decode)
        except SampleError as error:
            errors.append((entry.key, error))
    return errors


def _bytes(entry: Entry, read: Read) -> bytes:
    try:
        return taken(entry, read)
    except FileNotFoundError as error:
        raise SampleError("missing_tar", str(error)) from None


def check_sample(entry: Entry, data: bytes, decode: bool) -> None:
    """Check a sample's members, JSON, references, features, and the headers of all its pictures; or decode them.

    Raises:
        SampleError: What is wrong with it first.
    """
    members = cut_members(entry, data, verify=True)
    example = parse_example(entry.key, members, entry.width, entry.height)
    read_features(example, tuple(feature.name for feature in example.features))
    for name, part in members.items():
        if name.rpartition(".")[2].lower() in PICTURE_SUFFIXES:
            _check_picture(part, f"{entry.path}: {entry.key}.{name}", decode)


def _check_picture(data: bytes, name: str, in_full: bool) -> None:
    header = read_header(data, name)
    if in_full:
        decode(data, header, name)


def repeated_keys(snapshot: Snapshot) -> list[tuple[str, list[str]]]:
    """Keys in more than one unit, with these units. Takes 8 bytes a sample, and what is repeated."""
    hashes = np.concatenate([np.zeros(0, np.uint64), *map(_hashes, _keys_by_unit(snapshot))])
    hashes.sort()
    twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    found: dict[bytes, list[str]] = {}
    for name, keys in zip(snapshot.names, _keys_by_unit(snapshot) if len(twice) else (), strict=False):
        for number in np.flatnonzero(np.isin(_hashes(keys), twice)):
            found.setdefault(keys[number], []).append(name)
    return [(key.decode(), list(dict.fromkeys(units))) for key, units in found.items() if len(set(units)) > 1]


def _keys_by_unit(snapshot: Snapshot) -> Iterator[list[bytes]]:
    for number, unit in snapshot.places:
        part = snapshot.catalog.parts[number]
        rows = part.rows(unit)
        ends = part.samples["key"][rows].tolist()
        start = int(part.samples["key"][rows.start - 1]) if rows.start else 0
        yield [part.keys[a:b].tobytes() for a, b in zip([start, *ends], ends, strict=False)]


def _hashes(keys: Sequence[bytes]) -> npt.NDArray[np.uint64]:
    digests = b"".join(hashlib.blake2b(key, digest_size=8).digest() for key in keys)
    return np.frombuffer(digests, "<u8")


def table(verified: Verified) -> Table:
    """Damage by reason, for people to read."""
    table = Table("reason", "samples", "first keys", "the first says")
    for reason, damage in sorted(verified.damage.items(), key=lambda pair: -pair[1].count):
        more = ", …" if damage.count > len(damage.first) else ""
        table.add_row(reason, f"{damage.count:,}", ", ".join(damage.first) + more, damage.message)
    return table
