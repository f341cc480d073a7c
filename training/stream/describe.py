"""What a data set is, as the stream will read it: told from the catalog alone, without opening a tar."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Group
from rich.table import Table

from training.stream.buckets import Buckets
from training.stream.catalog import FAULTS
from training.stream.order import OrderParams, Segment
from training.stream.snapshot import Snapshot
from training.stream.source import Dataset, Source, repeats_of


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetLine:
    """A data set by its index.

    Attributes:
        url: Where it is.
        units: Tars.
        samples: In all of them.
        bytes: Encoded, of all samples.
        unsized: Samples whose size the index doesn't know; they are taken for squares.
        faults: Samples that the index alone shows to be damaged, by reason.
        members: How many samples have each member.
    """

    url: str
    units: int
    samples: int
    bytes: int
    unsized: int
    faults: dict[str, int]
    members: dict[str, int]

    @property
    def subjects(self) -> dict[int, int]:
        """How many samples have at least so many subjects with a crop."""
        numbers = [_subject_number(name) for name in self.members]
        most = Counter(
            {number: self.members[name] for name, number in zip(self.members, numbers, strict=True) if number}
        )
        return dict(sorted(most.items()))


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketLine:
    """A bucket's share of the first epoch: ``left`` samples fill no batch and come first in the next epoch."""

    ratio: float
    size: tuple[int, int]
    samples: int
    batches: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Data sets together, as an epoch goes through them."""

    batch_size: int
    datasets: tuple[DatasetLine, ...]
    buckets: tuple[BucketLine, ...]


def describe(datasets: Sequence[Dataset], buckets: Buckets, order: OrderParams, cache: Path) -> Description:
    """Tell what data sets hold, and what their first epoch is.

    Raises:
        DatasetError: If one is empty or its index is not what its units say.
        OSError: If one can't be read.
    """
    snapshots = [look(dataset.url, buckets, cache) for dataset in datasets]
    counts = tuple(zip(*(snapshot.counts for snapshot in snapshots), strict=True))
    repeats = repeats_of(datasets, [sum(snapshot.counts) for snapshot in snapshots])
    segment = Segment.first(order, counts, repeats)
    return Description(
        batch_size=order.batch_size,
        datasets=tuple(dataset_line(snapshot) for snapshot in snapshots),
        buckets=tuple(_bucket_line(segment, buckets, number) for number in range(len(counts))),
    )


def look(url: str, buckets: Buckets, cache: Path) -> Snapshot:
    """What there is of a data set now."""
    source = Source(url, cache)
    try:
        return source.freeze(source.refresh(), buckets)
    finally:
        source.storage.close()


def _bucket_line(segment: Segment, buckets: Buckets, number: int) -> BucketLine:
    return BucketLine(
        ratio=buckets.ratios[number],
        size=buckets.sizes[number],
        samples=segment.length(number, 1),
        batches=segment.batches(number, 1),
        left=segment.left(number, 1),
    )


def dataset_line(snapshot: Snapshot) -> DatasetLine:
    """A data set by its index alone, counted a unit at a time."""
    members: Counter[str] = Counter()
    faults = np.zeros(len(FAULTS), np.int64)
    size = unsized = 0
    for number, unit in snapshot.places:
        part = snapshot.catalog.parts[number]
        samples = part.samples[part.rows(unit)]
        size += int(samples["size"].sum(dtype="uint64"))
        unsized += int(((samples["width"] == 0) | (samples["height"] == 0)).sum())
        faults += np.bincount(samples["fault"], minlength=len(FAULTS))
        if len(samples):
            first = int(samples["member"][0])
            last = int(samples["member"][-1]) + int(samples["members"][-1])
            counts = np.bincount(part.members["name"][first:last])
            members.update({part.names[name]: int(counts[name]) for name in np.flatnonzero(counts)})
    return DatasetLine(
        url=snapshot.url,
        units=len(snapshot.places),
        samples=sum(snapshot.counts),
        bytes=size,
        unsized=unsized,
        faults={name: int(count) for name, count in sorted(zip(FAULTS, faults, strict=True)) if name and count},
        members=dict(members.most_common()),
    )


def _subject_number(member: str) -> int:
    """Counted from 1, of a subject's own crop; 0 for any other member."""
    stem, _, suffix = member.partition(".")
    number = stem.removeprefix("subject")
    return int(number) + 1 if number != stem and number.isdigit() and "." not in suffix else 0


def tables(description: Description) -> Group:
    """The description for people to read."""
    parts = [part for line in description.datasets for part in (_dataset_table(line), _member_table(line))]
    return Group(*parts, _bucket_table(description))


def _dataset_table(line: DatasetLine) -> Table:
    table = Table(title=line.url, title_justify="left", show_header=False)
    mean = line.bytes / max(line.samples, 1)
    rows = {
        "units": f"{line.units:,}",
        "samples": f"{line.samples:,}",
        "bytes": f"{line.bytes / 1e6:,.1f} MB, {mean / 1e3:,.1f} kB a sample",
        "of unknown size": f"{line.unsized:,}" if line.unsized else "",
        "damaged by the index": ", ".join(f"{count:,} {reason}" for reason, count in line.faults.items()),
        "with subjects": ", ".join(f"{count:,} have {number} or more" for number, count in line.subjects.items()),
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table


def _member_table(line: DatasetLine, most: int = 24) -> Table:
    more = len(line.members) - most
    table = Table("member", "samples", "share", caption=f"and {more} more" if more > 0 else None)
    for name, count in list(line.members.items())[:most]:
        table.add_row(name, f"{count:,}", f"{count / max(line.samples, 1):.1%}")
    return table


def _bucket_table(description: Description) -> Table:
    lines = description.buckets
    title = f"the first epoch, in batches of {description.batch_size}"
    table = Table("aspect", "size", "samples", "batches", "carried over", title=title, title_justify="left")
    for line in lines:
        size = f"{line.size[0]} x {line.size[1]}"
        table.add_row(f"{line.ratio:g}", size, f"{line.samples:,}", f"{line.batches:,}", f"{line.left:,}")
    table.add_section()
    totals = (sum(getattr(line, name) for line in lines) for name in ("samples", "batches", "left"))
    table.add_row("all", "", *(f"{total:,}" for total in totals))
    return table
