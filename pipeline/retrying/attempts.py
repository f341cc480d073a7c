"""Rows that were tried more than once: each counts where it was tried last."""

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.files import AnyPath
from manifests.record import Row, Verdict
from manifests.unit_record import Rejection, StepCount, Superseded, UnitRecord


def standing(records: Sequence[UnitRecord]) -> Iterator[UnitRecord]:
    """The records, each without the rows that a later one accounts for: rows, kept and rejections then sum up."""
    gone = _by_unit(records)
    for record in records:
        yield _without(record, gone[record.unit]) if record.unit in gone else record


def superseded_keys(records: Iterable[UnitRecord]) -> Mapping[int, frozenset[str]]:
    """Keys of the rejected rows, by unit, that a later unit accounts for."""
    return {unit: frozenset(key for part in parts for key in part.keys) for unit, parts in _by_unit(records).items()}


def superseded_parts(records: Iterable[UnitRecord]) -> Mapping[int, tuple[Superseded, ...]]:
    """The rows that a later unit accounts for, by the unit that rejected them."""
    return {unit: tuple(parts) for unit, parts in _by_unit(records).items()}


def as_rejected(rows: Iterable[Row], parts: Sequence[Superseded]) -> Iterator[Row]:
    """A unit's rows as they come in when it is done anew: what a later unit accounts for stands rejected as it was.

    So no row is in two shards, and what was taken out of the unit's counts is still in them.
    """
    verdicts: dict[str, Verdict] = {}
    for part in parts:
        reasons = [rejection for rejection in part.rejections for _ in range(rejection.count)]
        for key, why in zip(part.keys, reasons, strict=True):
            message = "accounted for by a later unit, which tried it again"
            verdicts[key] = Verdict(
                kind="dropped" if why.kind == "dropped" else "failed", node=why.node, reason=why.reason, message=message
            )
    for row in rows:
        verdict = verdicts.get(row.record.key)
        yield dataclasses.replace(row, verdict=verdict) if verdict else row


def with_rejected(steps: Sequence[StepCount], parts: Sequence[Superseded]) -> tuple[StepCount, ...]:
    """The counts of steps, with those of rows that came in rejected, as if they had gone as far as they once did."""
    lost = [rejection for part in parts for rejection in part.rejections]
    more = steps_of(lost, [step.node for step in steps])
    return tuple(
        dataclasses.replace(
            step, records_in=step.records_in + part.records_in, records_out=step.records_out + part.records_out
        )
        for step, part in zip(steps, more, strict=True)
    )


def read_rejects(path: AnyPath) -> list[dict[str, str]]:
    """Key, kind, node and reason of every row of a unit's rejects."""
    rows: list[dict[str, str]] = pq.read_table(
        pa.BufferReader(path.read_bytes()), columns=["key", "kind", "node", "reason"]
    ).to_pylist()
    return rows


def _by_unit(records: Iterable[UnitRecord]) -> Mapping[int, list[Superseded]]:
    gone: dict[int, list[Superseded]] = defaultdict(list)
    for record in records:
        for part in record.supersedes:
            gone[part.unit].append(part)
    return gone


def _without(record: UnitRecord, gone: Sequence[Superseded]) -> UnitRecord:
    lost = [rejection for part in gone for rejection in part.rejections]
    counts = counted(record.rejections)
    counts.subtract(counted(lost))
    return dataclasses.replace(
        record,
        rows=record.rows - sum(rejection.count for rejection in lost),
        rejections=rejections_of(counts),
        steps=tuple(_less(record.steps, steps_of(lost, [step.node for step in record.steps]))),
    )


def _less(steps: Sequence[StepCount], less: Sequence[StepCount]) -> Iterator[StepCount]:
    """A record that killed its worker may not have been counted as it came in: no step lets more out than in."""
    for step, part in zip(steps, less, strict=True):
        out = step.records_out - part.records_out
        yield dataclasses.replace(step, records_in=max(step.records_in - part.records_in, out), records_out=out)


def counted(rejections: Iterable[Rejection]) -> Counter[tuple[str, str, str]]:
    """Rejections by kind, node and reason."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for rejection in rejections:
        counts[rejection.kind, rejection.node, rejection.reason] += rejection.count
    return counts


def rejections_of(counts: Mapping[tuple[str, str, str], int]) -> tuple[Rejection, ...]:
    """Counts by kind, node and reason as rejections, in their order."""
    return tuple(
        Rejection(kind=kind, node=node, reason=reason, count=count)
        for (kind, node, reason), count in sorted(counts.items())
        if count
    )


def steps_of(rejections: Iterable[Rejection], nodes: Sequence[str], kept: int = 0) -> list[StepCount]:
    """What steps count, in time 0, of records rejected so and of so many kept.

    A record comes into every step up to the one that rejects it; one that the source rejects comes into none.
    """
    places = {node: place for place, node in enumerate(nodes)}
    entered = [kept] * len(nodes)
    left = [kept] * len(nodes)
    for rejection in rejections:
        last = places.get(rejection.node, -1)
        for place in range(last + 1):
            entered[place] += rejection.count
            left[place] += rejection.count if place < last else 0
    return [
        StepCount(node=node, records_in=entered[place], records_out=left[place], seconds=0.0)
        for place, node in enumerate(nodes)
    ]
