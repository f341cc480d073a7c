"""Re-read every committed unit and compare it with what its record promises."""

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.files import AnyPath, local_copy
from manifests.shard import (
    INDEX_SCHEMA,
    REJECT_SCHEMA,
    SchemaVersionError,
    build_index,
    read_index,
    record_from_members,
)
from manifests.tar import read_samples
from manifests.unit_record import UnitRecord, unit_name
from pipeline.ledger import Layout, ResumeError
from pipeline.plan import digest
from pipeline.retrying.attempts import read_rejects
from pipeline.telling import Told


def verify(layout: Layout, told: Told = lambda done, units: None) -> tuple[list[str], int, int]:
    """Every mistake found, naming its file; how many units were read; and how many the run has.

    Args:
        layout: The run's folder.
        told: Told of the units read.

    Raises:
        ResumeError: If the folder holds no run.
    """
    info = layout.read_run()
    fingerprint = digest(info.fingerprint)
    mistakes: list[str] = []
    keys: dict[str, str] = {}
    names = layout.committed()
    retried: list[UnitRecord] = []
    for done, name in enumerate(names):
        told(done, len(names))
        try:
            record = layout.unit_record(name)
        except ResumeError as error:
            mistakes.append(str(error))
            continue
        if record.fingerprint != fingerprint or (record.unit >= info.units and record.attempt == 1):
            mistakes.append(f"{layout.unit(name)}: is no unit of the run that {layout.run.name} tells of")
        mistakes += _unit_mistakes(layout, record, keys)
        retried += [record] if record.supersedes else []
    told(len(names), len(names))
    mistakes += [*_retry_mistakes(layout, retried), *sorted(_strangers(layout, frozenset(names)))]
    return mistakes, len(names), info.units + sum(record.attempt > 1 for record in retried)


def _retry_mistakes(layout: Layout, retried: Sequence[UnitRecord]) -> Iterator[str]:
    """Rows that a unit says it accounts for and that were never rejected, or that another one accounts for too."""
    seen: dict[tuple[int, str], str] = {}
    for record in retried:
        for part in record.supersedes:
            where, path = layout.unit(record.name), layout.rejects(unit_name(part.unit))
            if unknown := sorted(set(part.keys) - _rejected_keys(path)):
                yield f"{where}: tried {len(unknown)} rows again that {path} does not name, {unknown[0]} first"
            for key in part.keys:
                if (other := seen.setdefault((part.unit, key), record.name)) != record.name:
                    yield f"{where}: {key} of unit {part.unit} is also tried again by unit {other}"


def _rejected_keys(path: AnyPath) -> frozenset[str]:
    try:
        return frozenset(row["key"] for row in read_rejects(path))
    except (OSError, ValueError, KeyError):
        return frozenset()


def _strangers(layout: Layout, units: frozenset[str]) -> Iterator[str]:
    """Files that look like a unit's and belong to none that is done: readers of ``shards/*.tar`` would take them."""
    for folder in layout.folders:
        for path in folder.glob("[0-9]*"):
            if path.stem not in units:
                yield f"{path}: belongs to no unit that is done; a run that is going on or resumed writes it anew"


def _unit_mistakes(layout: Layout, record: UnitRecord, keys: dict[str, str]) -> Iterator[str]:
    name = record.name
    rejected = sum(rejection.count for rejection in record.rejections)
    if record.kept + rejected != record.rows or record.rows != record.stop - record.start:
        yield f"{layout.unit(name)}: {record.rows} rows, but {record.kept} kept + {rejected} rejected"
    if (rejected > 0) != (record.rejects_sha256 is not None):
        yield f"{layout.unit(name)}: {rejected} rejected rows, but rejects_sha256 is {record.rejects_sha256}"
    wanted = {layout.tar(name): record.tar_sha256, layout.index(name): record.index_sha256}
    if record.rejects_sha256 is not None:
        wanted[layout.rejects(name)] = record.rejects_sha256
    with ExitStack() as stack:
        files = {path: file for path in wanted if (file := _open(path, stack))}
        for path, sha256 in wanted.items():
            yield from _file_mistakes(path, files.get(path), sha256)
        if rejects := files.get(layout.rejects(name)):
            yield from _rejects_mistakes(layout.rejects(name), rejects, rejected)
        if layout.tar(name) in files and layout.index(name) in files:
            yield from _shard_mistakes(layout, record, files[layout.tar(name)], keys)


def _open(path: AnyPath, stack: ExitStack) -> BinaryIO | None:
    """The file, to be read several times; ``None`` if it is not there."""
    try:
        return stack.enter_context(local_copy(path))
    except FileNotFoundError:
        return None


def _file_mistakes(path: AnyPath, file: BinaryIO | None, sha256: str) -> Iterator[str]:
    if file is None:
        yield f"{path}: missing"
        return
    found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    if found != sha256:
        yield f"{path}: sha256 is {found}, its unit record says {sha256}"


def _rejects_mistakes(path: AnyPath, file: BinaryIO, rejected: int) -> Iterator[str]:
    file.seek(0)
    try:
        table = pq.read_table(pa.BufferReader(file.read()))
    except (OSError, ValueError) as error:
        yield f"{path}: unreadable: {error}"
        return
    if not table.schema.equals(REJECT_SCHEMA):
        yield f"{path}: its schema is not that of rejects"
    if table.num_rows != rejected:
        yield f"{path}: {table.num_rows} rows, its unit record says {rejected}"


def _shard_mistakes(layout: Layout, record: UnitRecord, file: BinaryIO, keys: dict[str, str]) -> Iterator[str]:
    tar, index = layout.tar(record.name), layout.index(record.name)
    try:
        rebuilt = build_index(file)
        found = [(key, record_from_members(members, f"{tar}: {key}").key) for key, members in read_samples(file)]
        kept_index = read_index(index)
    except (tarfile.TarError, SchemaVersionError, ValueError, KeyError, TypeError, OSError) as error:
        yield f"{tar}: unreadable: {type(error).__name__}: {error}"
        return
    if not kept_index.schema.equals(INDEX_SCHEMA) or not kept_index.equals(rebuilt):
        yield f"{index}: differs from the index its tar gives"
    if len(found) != record.kept:
        yield f"{tar}: {len(found)} samples, its unit record says {record.kept}"
    for key, inner in found:
        if inner != key:
            yield f"{tar}: sample {key} holds the JSON of {inner}"
        if keys.setdefault(key, record.name) != record.name:
            yield f"{tar}: key {key} is also in unit {keys[key]}"
