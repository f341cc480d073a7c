"""What an output folder tells of its run: the funnel step by step, with examples of what was lost."""

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.unit_record import StepCount, UnitRecord
from pipeline.ledger import Layout, RunInfo
from pipeline.report.published import Comparison, compare
from pipeline.report.survey import Survey, survey_unit
from pipeline.retrying.attempts import superseded_keys

_EXAMPLES = 8

Cause: TypeAlias = tuple[str, str, str]
"""Kind, node and reason of a rejection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A rejected row, to show what its reason means in practice."""

    source: str
    row: int
    url: str | None
    alt_text: str | None
    message: str
    thumbnail: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """All records that one node dropped or failed for one reason, with a few of them."""

    kind: str
    reason: str
    meaning: str
    count: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSummary:
    """What one step did to all records so far; ``seconds`` are those ``process`` took, summed over workers."""

    node: str
    stage: str
    records_in: int
    records_out: int
    seconds: float
    losses: tuple[Loss, ...]

    def lost(self, kind: str) -> int:
        """How many records it dropped, or failed."""
        return sum(loss.count for loss in self.losses if loss.kind == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """A run as far as its units are committed.

    Attributes:
        info: What the run is.
        units: Records of the committed units, in order.
        steps: The funnel: ``source`` first, then every node in order.
        survey: What is in the records that were kept.
        unbalanced: Numbers of units whose kept, dropped and failed records don't add up to their rows.
    """

    info: RunInfo
    units: tuple[UnitRecord, ...]
    steps: tuple[StepSummary, ...]
    survey: Survey
    unbalanced: tuple[int, ...]

    @property
    def done(self) -> int:
        """Committed units of the source's first pass, of which the run has ``info.units``."""
        return sum(unit.attempt == 1 for unit in self.units)

    @property
    def rows(self) -> int:
        """Source rows in the committed units."""
        return sum(unit.rows for unit in self.units)

    @property
    def kept(self) -> int:
        """Records in shards."""
        return sum(unit.kept for unit in self.units)

    @property
    def dropped(self) -> int:
        """Records unfit for the manifest."""
        return sum(step.lost("dropped") for step in self.steps)

    @property
    def failed(self) -> int:
        """Records that could not be had or processed."""
        return sum(step.lost("failed") for step in self.steps)

    @property
    def tar_size(self) -> int:
        """Bytes of all shards."""
        return sum(unit.tar_size for unit in self.units)

    @property
    def comparison(self) -> Comparison | None:
        """The statistics of the paper that the manifest names, beside the run's."""
        return compare(self.info.paper, self.survey) if self.info.paper and self.kept else None

    @property
    def finished_at(self) -> datetime | None:
        """When the latest unit was committed."""
        return max((datetime.fromisoformat(unit.finished_at) for unit in self.units), default=None)

    @property
    def seconds(self) -> float:
        """From the start to the latest commit, pauses between resumed runs included."""
        end = self.finished_at
        return (end - datetime.fromisoformat(self.info.started_at)).total_seconds() if end else 0.0


def collect(layout: Layout) -> RunSummary:
    """Read an output folder, also of a run that is still going or has stopped.

    Raises:
        ResumeError: If no run was ever started there.
        FileNotFoundError: If a committed file is gone.
        SchemaVersionError: If a newer Inlay wrote it.
    """
    info = layout.read_run()
    units = tuple(layout.unit_records())
    survey = Survey()
    for unit in units:
        survey_unit(survey, layout, unit.name)
    return RunSummary(
        info=info,
        units=units,
        steps=tuple(_funnel(info, units, _losses(layout, info, units))),
        survey=survey,
        unbalanced=tuple(unit.unit for unit in units if unit.kept + _rejected(unit) != unit.rows),
    )


def choose(units: Sequence[UnitRecord], wanted: int) -> Mapping[str, list[int]]:
    """Which samples to show: evenly spread over the run, as name of the unit -> positions in its shard."""
    counts = [unit.kept for unit in units]
    return {units[part].name: inside for part, inside in place(counts, spread(sum(counts), wanted)).items()}


def spread(count: int, wanted: int) -> list[int]:
    """Positions of at most ``wanted`` of ``count`` things, evenly spread, in order; the same ones every time."""
    wanted = min(count, wanted)
    return [(2 * number + 1) * count // (2 * wanted) for number in range(wanted)]


def place(counts: Sequence[int], positions: Sequence[int]) -> Mapping[int, list[int]]:
    """Positions in a whole as part -> positions inside that part, where the parts hold so many each."""
    ends = list(accumulate(counts))
    inside: dict[int, list[int]] = defaultdict(list)
    for position in positions:
        part = bisect(ends, position)
        inside[part].append(position - ends[part] + counts[part])
    return inside


def _rejected(unit: UnitRecord) -> int:
    return sum(rejection.count for rejection in unit.rejections)


def _losses(layout: Layout, info: RunInfo, units: Sequence[UnitRecord]) -> Mapping[str, tuple[Loss, ...]]:
    """Per node, its reasons: failures before drops, the most frequent first."""
    meanings = {(reason.node, reason.reason): reason.meaning for reason in info.reasons}
    counts: Counter[Cause] = Counter()
    for unit in units:
        for rejection in unit.rejections:
            counts[rejection.kind, rejection.node, rejection.reason] += rejection.count
    examples = _examples(layout, units, list(counts))
    losses: dict[str, list[Loss]] = defaultdict(list)
    for cause in sorted(counts, key=lambda cause: (cause[0] != "failed", -counts[cause], cause)):
        kind, node, reason = cause
        meaning = meanings.get((node, reason), "")
        losses[node].append(
            Loss(kind=kind, reason=reason, meaning=meaning, count=counts[cause], examples=tuple(examples[cause]))
        )
    return {node: tuple(parts) for node, parts in losses.items()}


def _examples(layout: Layout, units: Sequence[UnitRecord], causes: Sequence[Cause]) -> Mapping[Cause, list[Example]]:
    """A few rows per cause, evenly spread over the run, reading only the files they lie in."""
    wanted: dict[int, dict[Cause, list[int]]] = defaultdict(dict)
    for cause in causes:
        counts = [_count(unit, cause) for unit in units]
        for unit, positions in place(counts, spread(sum(counts), _EXAMPLES)).items():
            wanted[unit][cause] = positions
    gone = superseded_keys(units)
    examples: dict[Cause, list[Example]] = defaultdict(list)
    for unit in sorted(wanted):
        rejects = pq.read_table(pa.BufferReader(layout.rejects(units[unit].name).read_bytes())).to_pylist()
        rows = _by_cause([row for row in rejects if row["key"] not in gone.get(units[unit].unit, ())])
        for cause, positions in wanted[unit].items():
            examples[cause] += [_example(rows[cause][position]) for position in positions]
    return examples


def _count(unit: UnitRecord, cause: Cause) -> int:
    return sum(part.count for part in unit.rejections if (part.kind, part.node, part.reason) == cause)


def _by_cause(rows: Sequence[Mapping[str, Any]]) -> Mapping[Cause, list[Mapping[str, Any]]]:
    groups: dict[Cause, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["kind"], row["node"], row["reason"]].append(row)
    return groups


def _example(row: Mapping[str, Any]) -> Example:
    return Example(**{name: row[name] for name in ("source", "row", "url", "alt_text", "message", "thumbnail")})


def _funnel(
    info: RunInfo, units: Sequence[UnitRecord], losses: Mapping[str, tuple[Loss, ...]]
) -> Iterator[StepSummary]:
    alive = sum(unit.rows for unit in units)
    stages = {"source": "", **{use.node: use.stage for use in info.steps}}
    counts = {node: _step_count(units, node) for node in stages}
    for node in [*stages, *sorted(losses.keys() - stages)]:
        lost = losses.get(node, ())
        count = counts.get(node) or StepCount(
            node=node, records_in=alive, records_out=alive - sum(loss.count for loss in lost), seconds=0.0
        )
        yield StepSummary(
            node=node,
            stage=stages.get(node, ""),
            records_in=count.records_in,
            records_out=count.records_out,
            seconds=count.seconds,
            losses=lost,
        )
        alive = count.records_out


def _step_count(units: Sequence[UnitRecord], node: str) -> StepCount | None:
    """What a node did to all units; ``None`` if it is no step, as the source."""
    counts = [count for unit in units for count in unit.steps if count.node == node]
    if not counts:
        return None
    return StepCount(
        node=node,
        records_in=sum(count.records_in for count in counts),
        records_out=sum(count.records_out for count in counts),
        seconds=sum(count.seconds for count in counts),
    )
