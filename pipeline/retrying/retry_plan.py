"""Which rejected rows are tried again, and in which units: written down before the first of them is begun."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from manifests.files import write_atomically
from manifests.record import SCHEMA_VERSION, from_plain, to_plain
from manifests.shard import check_version
from manifests.unit_record import Superseded, UnitRecord
from pipeline.ledger import Layout, Reason, ResumeError
from pipeline.retrying.attempts import read_rejects, rejections_of, superseded_keys
from pipeline.sources.base import Again, Retry, Unit


class RetryError(ValueError):
    """Rows that cannot be tried again; the message says why and what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """A row that stands rejected: in which unit, which unit of the source's first pass it is of, and what for."""

    unit: int
    home: int
    key: str
    kind: str
    node: str
    reason: str

    @property
    def classes(self) -> tuple[str, str]:
        """What ``--class`` may call it."""
        return self.reason, f"{self.node}.{self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPlan:
    """One attempt at rejected rows: the classes asked for, and its units, which are numbered after all others."""

    schema_version: int
    attempt: int
    classes: tuple[str, ...]
    units: tuple[Unit, ...]

    @property
    def rows(self) -> int:
        """How many rows are tried again."""
        return sum(unit.rows for unit in self.units)

    def left(self, layout: Layout) -> tuple[Unit, ...]:
        """Its units that are not done."""
        done = frozenset(layout.committed())
        return tuple(unit for unit in self.units if unit.name not in done)

    def write(self, layout: Layout) -> None:
        """Write it down, whole or not at all."""
        write_atomically(layout.retry(self.attempt), json.dumps(to_plain(self), ensure_ascii=False).encode())


def latest_plan(layout: Layout) -> RetryPlan | None:
    """The plan of the last attempt, done or not; ``None`` if nothing was ever tried again.

    Raises:
        ResumeError: If it is damaged.
        SchemaVersionError: If a newer Inlay wrote it.
    """
    names = sorted(path.name for path in layout.retry(0).parent.glob("[0-9]*.json"))
    if not names:
        return None
    path = layout.retry(0).with_name(names[-1])
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        check_version(plain["schema_version"], str(path))
        plan: RetryPlan = from_plain(RetryPlan, plain)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ResumeError(f"{path}: damaged ({error!r}); restore it from a copy of the folder") from None
    return plan


def read_rejected(layout: Layout) -> Iterator[Rejected]:
    """Every row that stands rejected, without those that were tried again since."""
    records = {record.unit: record for record in layout.unit_records()}
    gone = superseded_keys(records.values())
    for unit, record in records.items():
        if record.rejects_sha256 is not None:
            for row in read_rejects(layout.rejects(record.name)):
                if row["key"] not in gone.get(unit, ()):
                    yield Rejected(unit=unit, home=_home(records, unit, row["key"]), **row)


def _home(records: Mapping[int, UnitRecord], unit: int, key: str) -> int:
    """The unit of the first pass that a row is of."""
    while records[unit].attempt > 1:
        unit = next(part.unit for part in records[unit].supersedes if key in part.keys)
    return unit


def choose(rejected: Sequence[Rejected], classes: Sequence[str], declared: Sequence[Reason]) -> list[Rejected]:
    """The rows of these classes.

    Raises:
        RetryError: If no row and no stage of the run knows a class, with those that there are.
    """
    if not classes:
        raise RetryError("--class names no class; give reasons, by comma: timeout,http_429")
    present = Counter(f"{row.node}.{row.reason}" for row in rejected)
    known = {name for row in rejected for name in row.classes}
    known |= {name for reason in declared for name in (reason.reason, f"{reason.node}.{reason.reason}")}
    if unknown := sorted(set(classes) - known):
        there = "".join(f"\n  {name}: {count:,} rows" for name, count in present.most_common()) or " none"
        raise RetryError(f"no class {', '.join(unknown)} in this run; rejected rows by class:{there}")
    return [row for row in rejected if set(row.classes) & set(classes)]


def plan_units(rows: Sequence[Rejected], homes: Sequence[Unit], unit_rows: int, first: int, attempt: int) -> list[Unit]:
    """Units of at most ``unit_rows`` rows, in the source's order, numbered from ``first``."""
    ordered = sorted(rows, key=lambda row: (row.home, row.key))
    chunks = [ordered[start : start + unit_rows] for start in range(0, len(ordered), unit_rows)]
    return [
        Unit(first + number, homes[chunk[0].home].part, 0, len(chunk), _retry(chunk, homes, attempt))
        for number, chunk in enumerate(chunks)
    ]


def _retry(rows: Sequence[Rejected], homes: Sequence[Unit], attempt: int) -> Retry:
    again = []
    for home, group in groupby(rows, key=lambda row: row.home):
        unit = homes[home]
        again.append(
            Again(part=unit.part, start=unit.start, stop=unit.stop, keys=tuple(row.key for row in group)),
        )
    by_unit = groupby(sorted(rows, key=lambda row: (row.unit, row.key)), key=lambda row: row.unit)
    return Retry(
        attempt=attempt, rows=tuple(again), supersedes=tuple(_superseded(unit, list(group)) for unit, group in by_unit)
    )


def _superseded(unit: int, rows: Sequence[Rejected]) -> Superseded:
    return Superseded(
        unit=unit,
        keys=tuple(row.key for row in rows),
        rejections=rejections_of(Counter((row.kind, row.node, row.reason) for row in rows)),
    )


def new_plan(
    layout: Layout, classes: Sequence[str], declared: Sequence[Reason], homes: Sequence[Unit], unit_rows: int
) -> RetryPlan:
    """The plan of the next attempt at the rows of these classes.

    Raises:
        RetryError: If nobody knows a class.
    """
    rows = choose(list(read_rejected(layout)), classes, declared)
    before = latest_plan(layout)
    attempt = before.attempt + 1 if before else 2
    first = max([len(homes), *(int(name) + 1 for name in layout.committed())])
    units = plan_units(rows, homes, unit_rows, first, attempt)
    return RetryPlan(
        schema_version=SCHEMA_VERSION, attempt=attempt, classes=tuple(sorted(set(classes))), units=tuple(units)
    )
