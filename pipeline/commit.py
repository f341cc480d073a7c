"""One unit becomes one shard, its index, its rejects, and the record that commits them."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa

from manifests.files import atomic_file, create, open_path, write_atomically
from manifests.record import SCHEMA_VERSION, Record, Row, StepUse
from manifests.shard import REJECT_SCHEMA, index_of, parquet_bytes, record_sample
from manifests.tar import write_tar
from manifests.unit_record import Rejection, UnitRecord
from pipeline import lease
from pipeline.actor import FatalError, Work
from pipeline.ledger import Layout
from pipeline.retrying.attempts import rejections_of
from stages.masks import mask_png


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitPlan:
    """What a commit needs to know of the run. ``term`` is the driver's: the last one while this run goes on."""

    root: str
    term: int
    fingerprint: str
    buckets: tuple[float, ...]
    steps: tuple[StepUse, ...]


def commit(plan: CommitPlan, source: str, work: Work) -> UnitRecord:
    """Write a unit's files, each whole or not at all, and its record last, on condition that there is none.

    Bytes of shard, index and rejects depend on the rows and the plan alone.

    Raises:
        FatalError: If another driver has taken the folder over since: this worker is a leftover of a killed one.
        OSError: If the disk is full or the folder not writable; nothing is committed then.
        ValueError: If rows were lost on the way.
    """
    unit = work.unit
    if len(work.rows) != unit.rows:
        raise ValueError(f"unit {unit.name}: {len(work.rows)} rows came back of {unit.rows}")
    layout = Layout(open_path(plan.root))
    lease.check(layout, plan.term)
    try:
        return _commit(layout, plan, source, work)
    except _CommittedError:
        return layout.unit_record(unit.name)


class _CommittedError(Exception):
    """The unit was committed meanwhile, by a worker that was taken for dead."""


def _refuse_to_replace(layout: Layout, term: int, unit: str) -> None:
    """Let no file of a unit be replaced that is committed, nor any by a driver that is no more."""
    lease.check(layout, term)
    if layout.unit(unit).exists():
        raise _CommittedError


def _commit(layout: Layout, plan: CommitPlan, source: str, work: Work) -> UnitRecord:
    unit = work.unit
    check = partial(_refuse_to_replace, layout, plan.term, unit.name)
    kept = [row.record for row in work.rows if row.verdict is None]
    samples = [record_sample(_with_steps(record, plan.steps), mask_png, plan.buckets) for record in kept]
    with atomic_file(layout.tar(unit.name), check) as file:
        tar_sha256 = write_tar(file, ((sample.key, sample.members) for sample in samples))
        tar_size = file.tell()
    index = parquet_bytes(index_of(samples))
    write_atomically(layout.index(unit.name), index, check)
    if rejects := _rejects(work.rows):
        write_atomically(layout.rejects(unit.name), rejects, check)
    record = UnitRecord(
        schema_version=SCHEMA_VERSION,
        unit=unit.number,
        source=source,
        start=unit.start,
        stop=unit.stop,
        fingerprint=plan.fingerprint,
        rows=unit.rows,
        kept=len(kept),
        rejections=_rejections(work.rows),
        steps=work.steps,
        tar_size=tar_size,
        tar_sha256=tar_sha256,
        index_sha256=hashlib.sha256(index).hexdigest(),
        rejects_sha256=hashlib.sha256(rejects).hexdigest() if rejects else None,
        finished_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        attempt=unit.retry.attempt if unit.retry else 1,
        supersedes=unit.retry.supersedes if unit.retry else (),
        index_size=len(index),
        rejects_size=len(rejects or b""),
    )
    lease.check(layout, plan.term)
    return _record(layout, record)


def _record(layout: Layout, record: UnitRecord) -> UnitRecord:
    """Commit the unit; if it is committed already, by a worker whose answer got lost, give that record.

    Raises:
        FatalError: If what is committed is not the same.
    """
    path = layout.unit(record.name)
    try:
        create(path, record.to_json().encode())
    except FileExistsError:
        committed = layout.unit_record(record.name)
        if dataclasses.replace(committed, steps=record.steps, finished_at=record.finished_at) != record:
            raise FatalError(
                f"{path}: another worker has committed this unit meanwhile, with other contents; check both with "
                "`python -m pipeline verify`"
            ) from None
        return committed
    return record


def _with_steps(record: Record, steps: tuple[StepUse, ...]) -> Record:
    """The record with its lineage: the steps of this run after those of a run it was read from."""
    return dataclasses.replace(record, steps=(*record.steps, *steps))


def _rejections(rows: Sequence[Row]) -> tuple[Rejection, ...]:
    return rejections_of(
        Counter((row.verdict.kind, row.verdict.node, row.verdict.reason) for row in rows if row.verdict)
    )


def _rejects(rows: Sequence[Row]) -> bytes | None:
    """The rejected rows as a Parquet file, or nothing if there are none."""
    plain = [
        {
            "key": row.record.key,
            "source": row.record.source,
            "row": row.record.row,
            "url": row.record.url,
            "alt_text": row.record.alt_text,
            "kind": row.verdict.kind,
            "node": row.verdict.node,
            "reason": row.verdict.reason,
            "message": row.verdict.message,
            "thumbnail": row.verdict.thumbnail,
        }
        for row in rows
        if row.verdict
    ]
    return parquet_bytes(pa.Table.from_pylist(plain, schema=REJECT_SCHEMA)) if plain else None
