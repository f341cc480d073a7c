"""Pack a run: its small shards, in order, into large ones; if wanted, split by a hash of the samples' identity.

What is packed stays: units that the run commits later (also those of a retry) follow in further shards. So the shards
depend on the units that were there each time and on the options; packed at once, on these alone.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from manifests.files import AnyPath, atomic_file, write_atomically
from manifests.unit_record import Rejection, Superseded, UnitRecord, unit_name
from pipeline.lease import SILENCE_S, check, hold
from pipeline.ledger import Layout, ResumeError, RunInfo, Setting
from pipeline.packing.shard_writer import ShardWriter, copy_split, copy_whole
from pipeline.packing.split import Split
from pipeline.packing.unpacked import PackError, Unpacked
from pipeline.plan import digest
from pipeline.retrying.attempts import counted, read_rejects, rejections_of, superseded_keys
from pipeline.run import start, sweep
from pipeline.telling import Told


@dataclass(frozen=True, slots=True, kw_only=True)
class PackOptions:
    """How to pack.

    Attributes:
        shard_bytes: A shard ends before the unit that would make it larger; with a split, about that.
        split: Sides, each a run folder of its own inside the output folder.
        partial: Take a run that is not finished.
    """

    shard_bytes: int
    split: Split | None = None
    partial: bool = False

    @property
    def sides(self) -> tuple[str, ...]:
        """Sub-folders of the output folder."""
        return tuple(side.name for side in self.split.sides) if self.split else (".",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """What packing came to: of each side its folder, shards, samples and bytes; and units copied by this call."""

    sides: tuple[tuple[AnyPath, int, int, int], ...]
    units: int


class Packer:
    """A run on its way into one folder, or into one for each side of a split."""

    def __init__(self, source: Layout, out: AnyPath, options: PackOptions) -> None:
        self.info = source.read_run()
        self._source = source
        self._options = options
        self._records = {record.unit: record for record in source.unit_records()}
        self._gone = superseded_keys(self._records.values())
        self._check_finished()
        self._out = out
        self.sides = [Layout(out / side if options.split else out) for side in options.sides]
        self._done: list[dict[int, UnitRecord]] = [{} for _ in self.sides]
        self._terms: list[int] = []

    def _check_finished(self) -> None:
        done = sum(record.attempt == 1 for record in self._records.values())
        if not self._records:
            raise PackError(f"{self._source.root}: no unit is committed yet; there is nothing to pack")
        if done < self.info.units and not self._options.partial:
            raise PackError(
                f"{self._source.root}: {self.info.units - done:,} of {self.info.units:,} units are left; finish the "
                "run first, or give --partial to pack what is committed (the rest can follow later)"
            )

    def pack(self, told: Told) -> Packed:
        """Write the shards that are not there yet.

        Raises:
            PackError: If a unit is not what was committed, or has changed since it was packed.
            ResumeError: If the folder holds something else, or another is packing into it.
            FatalError: If another took it over meanwhile.
            OSError: If it cannot be written.
        """
        self._check_unsplit()
        with ExitStack() as held:
            for number, layout in enumerate(self.sides):
                start(layout, self._described(number, len(self._records), 0))
                self._terms.append(held.enter_context(hold(layout, SILENCE_S)))
                sweep(layout)
            groups = self._groups()
            self._describe(len(groups), is_done=False)
            left = {n: units for n, units in sorted(groups.items()) if any(n not in done for done in self._done)}
            total, copied = self._size(unit for units in left.values() for unit in units), 0
            for number, units in left.items():
                self._write(number, units)
                copied += self._size(units)
                told(copied, total)
            self._describe(len(groups), is_done=True)
        return Packed(sides=tuple(map(_summary, self.sides)), units=sum(map(len, left.values())))

    def _check_unsplit(self) -> None:
        """A folder that is a run itself takes no sides: what is in both would be taken for twice as much."""
        if self._options.split and Layout(self._out).run.exists():
            raise ResumeError(f"{self._out} holds a run and takes no sides of a split; give a new folder with --out")

    def _size(self, units: Iterable[int]) -> int:
        return sum(self._records[unit].tar_size for unit in units)

    def _described(self, side: int, shards: int, rows: int) -> RunInfo:
        settings = {
            "packed shard bytes": str(self._options.shard_bytes),
            "packed split": str(self._options.split or "none"),
            "packed side": self._options.sides[side],
        }
        return dataclasses.replace(
            self.info,
            fingerprint=(*self.info.fingerprint, *(Setting(name=n, value=v) for n, v in settings.items())),
            units=shards,
            rows=rows,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            packed_from=digest(self.info.fingerprint),
        )

    def _describe(self, shards: int, is_done: bool) -> None:
        """Have each ``run.json`` say how many shards there are and how many rows: before all is done, about."""
        total = sum(record.rows for record in self._records.values())
        for side, layout in enumerate(self.sides):
            share = self._options.split.share(side) if self._options.split else 1.0
            rows = sum(record.rows for record in layout.unit_records()) if is_done else round(total * share)
            before = layout.read_run()
            after = dataclasses.replace(before, units=shards, rows=rows)
            if after != before:
                write_atomically(layout.run, after.to_json().encode())

    def _groups(self) -> Mapping[int, list[int]]:
        """The units of every shard: of those there are as their records say, of the others in order."""
        groups: dict[int, list[int]] = {}
        for layout, done in zip(self.sides, self._done, strict=True):
            for record in map(layout.unit_record, layout.committed()):
                done[record.unit] = record
                groups[record.unit] = [unit.unit for unit in record.packed]
                self._check_unchanged(layout, record)
        packed = {unit for units in groups.values() for unit in units}
        number = 0
        for units in self._cut([unit for unit in self._records if unit not in packed]):
            while number in groups:
                number += 1
            groups[number] = units
        return groups

    def _check_unchanged(self, layout: Layout, record: UnitRecord) -> None:
        for unit in record.packed:
            now = self._records.get(unit.unit)
            if now and now.tar_sha256 != unit.tar_sha256:
                raise PackError(
                    f"unit {now.name} of {self._source.root} has changed since it was packed into "
                    f"{layout.tar(record.name)}; pack into a new folder"
                )

    def _cut(self, units: Sequence[int]) -> Iterator[list[int]]:
        """Units in order, in groups that make a shard; one larger than that is a group alone."""
        share = self._options.split.largest if self._options.split else 1.0
        group: list[int] = []
        size = 0.0
        for unit in units:
            weight = self._records[unit].tar_size * share
            if group and size + weight > self._options.shard_bytes:
                yield group
                group, size = [], 0.0
            group.append(unit)
            size += weight
        if group:
            yield group

    def _write(self, number: int, units: Sequence[int]) -> None:
        """Write a shard of each side that lacks it; each is committed by its record, as a unit is."""
        name = unit_name(number)
        open_sides = [side for side, done in enumerate(self._done) if number not in done]
        records: dict[int, UnitRecord] = {}
        with ExitStack() as files:
            writers = {
                side: ShardWriter(
                    self.sides[side],
                    number,
                    files.enter_context(atomic_file(self.sides[side].tar(name), partial(self._check_held, side))),
                )
                for side in open_sides
            }
            for unit in units:
                self._copy(unit, writers)
            for side, writer in writers.items():
                self._check_held(side)
                records[side] = self._finish(side, writer, units)
        for side, record in records.items():
            self._check_held(side)
            write_atomically(self.sides[side].unit(name), record.to_json().encode())
            self._done[side][number] = record

    def _check_held(self, side: int) -> None:
        """Refuse to write after another packer, that took this one for dead, has taken the folder over."""
        check(self.sides[side], self._terms[side])

    def _copy(self, unit: int, writers: Mapping[int, ShardWriter]) -> None:
        record = self._records[unit]
        unpacked = Unpacked(layout=self._source, record=record, gone=self._gone.get(unit, frozenset()))
        if self._options.split:
            copy_split(unpacked, writers, self._options.split)
        else:
            copy_whole(unpacked, writers[0])

    def _finish(self, side: int, writer: ShardWriter, units: Sequence[int]) -> UnitRecord:
        before = [record for number, record in self._done[side].items() if number < writer.number]
        fingerprint = digest(self._described(side, 0, 0).fingerprint)
        start_row = sum(record.rows for record in before)
        return writer.finish(fingerprint, start_row, self._superseded(self.sides[side], before, units))

    def _superseded(self, layout: Layout, before: Sequence[UnitRecord], units: Sequence[int]) -> list[Superseded]:
        """Rejected rows in shards packed earlier that units tried again since."""
        again = [part for unit in units for part in self._records[unit].supersedes]
        if not again:
            return []
        places = {unit.unit: record.unit for record in before for unit in record.packed}
        keys: dict[int, set[str]] = defaultdict(set)
        for part in again:
            if part.unit in places:
                keys[places[part.unit]].update(part.keys)
        gone = superseded_keys(before)
        found = (_standing(layout, shard, keys[shard] - gone.get(shard, frozenset())) for shard in sorted(keys))
        return [part for part in found if part.keys]


def _standing(layout: Layout, shard: int, keys: set[str]) -> Superseded:
    """Those of the keys that a shard has among its rejected rows."""
    path = layout.rejects(unit_name(shard))
    mine = [row for row in read_rejects(path) if row["key"] in keys] if path.exists() else []
    rejections = [Rejection(kind=row["kind"], node=row["node"], reason=row["reason"], count=1) for row in mine]
    return Superseded(unit=shard, keys=tuple(row["key"] for row in mine), rejections=rejections_of(counted(rejections)))


def _summary(layout: Layout) -> tuple[AnyPath, int, int, int]:
    records = list(layout.unit_records())
    kept, size = sum(record.kept for record in records), sum(record.tar_size for record in records)
    return layout.root, len(records), kept, size
