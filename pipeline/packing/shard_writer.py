"""One large shard out of the shards of several units: bytes are copied as they are, and checked on the way."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from manifests.files import write_atomically
from manifests.record import SCHEMA_VERSION
from manifests.shard import INDEX_SCHEMA, REJECT_SCHEMA, parquet_bytes
from manifests.tar import Digesting, tar_end
from manifests.unit_record import PackedUnit, Rejection, StepCount, Superseded, UnitRecord, unit_name
from pipeline.hosts import counted_by_host, worst
from pipeline.ledger import Layout
from pipeline.packing.split import Split, identity_of
from pipeline.packing.unpacked import Unpacked
from pipeline.retrying.attempts import counted, rejections_of, steps_of


class ShardWriter:
    """A large shard while it is written: one of the sides that samples go to."""

    def __init__(self, layout: Layout, number: int, file: BinaryIO) -> None:
        self.layout = layout
        self.number = number
        self.tar = Digesting(file)
        self._index: list[pa.Table] = [INDEX_SCHEMA.empty_table()]
        self._rejects: list[pa.Table] = [REJECT_SCHEMA.empty_table()]
        self._packed: list[PackedUnit] = []
        self._steps: dict[str, StepCount] = {}

    def add(self, record: UnitRecord, index: pa.Table, rejects: pa.Table, steps: Sequence[StepCount]) -> None:
        """Take note of what came of a unit: its index as it is here, its rejected rows and its steps."""
        self._index.append(index)
        self._rejects.append(rejects)
        kept = len(set(index["key"].to_pylist()))
        self._packed.append(
            PackedUnit(unit=record.unit, rows=kept + rejects.num_rows, kept=kept, tar_sha256=record.tar_sha256)
        )
        for step in steps:
            self._steps[step.node] = _sum(self._steps[step.node], step) if step.node in self._steps else step

    def finish(self, fingerprint: str, start: int, supersedes: Sequence[Superseded]) -> UnitRecord:
        """End the tar, write index and rejects; the record, which the caller writes once the tar has its name."""
        self.tar.write(tar_end(self.tar.size))
        name = unit_name(self.number)
        index = parquet_bytes(pa.concat_tables(self._index).combine_chunks())
        write_atomically(self.layout.index(name), index)
        table = pa.concat_tables(self._rejects).combine_chunks()
        rejects = parquet_bytes(table) if table.num_rows else b""
        if rejects:
            write_atomically(self.layout.rejects(name), rejects)
        rows = sum(unit.rows for unit in self._packed)
        return UnitRecord(
            schema_version=SCHEMA_VERSION,
            unit=self.number,
            source=f"units {self._packed[0].unit} to {self._packed[-1].unit}",
            start=start,
            stop=start + rows,
            fingerprint=fingerprint,
            rows=rows,
            kept=sum(unit.kept for unit in self._packed),
            rejections=rejections_in(table),
            steps=tuple(self._steps.values()),
            tar_size=self.tar.size,
            tar_sha256=self.tar.sha256,
            index_sha256=hashlib.sha256(index).hexdigest(),
            rejects_sha256=hashlib.sha256(rejects).hexdigest() if rejects else None,
            finished_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            supersedes=tuple(supersedes),
            packed=tuple(self._packed),
            index_size=len(index),
            rejects_size=len(rejects),
        )


def _sum(one: StepCount, other: StepCount) -> StepCount:
    return replace(
        one,
        records_in=one.records_in + other.records_in,
        records_out=one.records_out + other.records_out,
        seconds=round(one.seconds + other.seconds, 6),
        downloaded=one.downloaded + other.downloaded,
        batches=one.batches + other.batches,
        records=one.records + other.records,
        hosts=worst(counted_by_host(one) + counted_by_host(other)),
    )


def rejections_in(rejects: pa.Table) -> tuple[Rejection, ...]:
    """A table of rejected rows, counted."""
    columns = (rejects[name].to_pylist() for name in ("kind", "node", "reason"))
    return rejections_of(Counter(zip(*columns, strict=True)))


def copy_whole(unit: Unpacked, writer: ShardWriter) -> None:
    """Append all of a unit to a shard.

    Raises:
        PackError: If the unit is not what was committed.
        OSError: If it cannot be read, or the shard not be written.
    """
    index, rejects, begin = unit.index(), unit.rejects(), writer.tar.size
    spans = unit.spans(index)
    with unit.open() as tar:
        for data in tar.chunks(spans[-1][1] if spans else 0):
            writer.tar.write(data)
        tar.check()
    if counted(rejections_in(rejects)) != counted(unit.record.rejections):
        raise unit.broken("its rejects do not add up to what its record counts")
    writer.add(unit.record, _moved(index, np.full(index.num_rows, begin)), rejects, unit.record.steps)


def copy_split(unit: Unpacked, writers: Mapping[int, ShardWriter], split: Split) -> None:
    """Append each sample and each rejected row of a unit to the shard of its side; of sides without writer, none.

    Raises:
        PackError: If the unit is not what was committed.
        OSError: If it cannot be read, or a shard not be written.
    """
    index, rejects = unit.index(), unit.rejects()
    sides, moves = [], []
    with unit.open() as tar:
        for (start, stop), json_size in zip(unit.spans(index), _json_sizes(index), strict=True):
            sample = tar.take(stop - start)
            side = split.side_of(identity_of(_plain(unit, sample, json_size)))
            sides.append(side)
            if writer := writers.get(side):
                moves.append(writer.tar.size - start)
                writer.tar.write(sample)
            else:
                moves.append(0)
        tar.check()
    samples = _sample_numbers(index)
    side_of_member, move_of_member = np.array(sides, int)[samples], np.array(moves, int)[samples]
    side_of_reject = np.array([split.side_of(identity_of(row)) for row in rejects.select(["key", "url"]).to_pylist()])
    for side, writer in writers.items():
        here = side_of_member == side
        mine = rejects.filter(pa.array(side_of_reject == side, pa.bool_()))
        moved = _moved(index.filter(pa.array(here)), move_of_member[here])
        writer.add(unit.record, moved, mine, list(_steps(unit.record, rejections_in(mine), sides.count(side))))


def _steps(record: UnitRecord, rejections: Sequence[Rejection], kept: int) -> Iterator[StepCount]:
    """A side's part of a unit's steps: records by what became of them, seconds by records in, bytes by records out."""
    for whole, part in zip(record.steps, steps_of(rejections, [step.node for step in record.steps], kept), strict=True):
        share = part.records_in / whole.records_in if whole.records_in else 0.0
        left = part.records_out / whole.records_out if whole.records_out else 0.0
        yield replace(part, seconds=round(whole.seconds * share, 6), downloaded=round(whole.downloaded * left))


def _sample_numbers(index: pa.Table) -> Any:
    """For each member, the number of its sample."""
    keys = index["key"].to_pylist()
    changes = [place > 0 and key != keys[place - 1] for place, key in enumerate(keys)]
    return np.cumsum(np.array(changes, int))


def _json_sizes(index: pa.Table) -> list[int]:
    """Sizes of the samples' JSON members, each the last of its sample."""
    pairs = zip(index["member"].to_pylist(), index["size"].to_pylist(), strict=True)
    return [size for member, size in pairs if member == "json"]


def _plain(unit: Unpacked, sample: bytes, json_size: int) -> Mapping[str, Any]:
    """A sample's JSON, which lies at its end, padded to whole blocks."""
    stop = len(sample) - (-json_size % 512)
    try:
        plain: Mapping[str, Any] = json.loads(sample[stop - json_size : stop])
    except ValueError as error:
        raise unit.broken(f"a sample's JSON cannot be read: {error}") from None
    return plain


def _moved(index: pa.Table, moves: Any) -> pa.Table:
    place = index.schema.get_field_index("offset")
    offsets = np.asarray(index["offset"].to_numpy(), np.int64) + np.asarray(moves, np.int64)
    return index.set_column(place, INDEX_SCHEMA.field("offset"), pa.array(offsets, pa.int64()))
