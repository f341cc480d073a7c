"""A source without the rows that keep-lists name as duplicates: they are dropped before anything is done with them."""

from collections.abc import Sequence
from dataclasses import replace

from manifests.record import Row, Verdict
from pipeline.sources.base import Source, Unit
from pipeline.sources.keep_list import DUPLICATES, KeepList
from pipeline.sources.rows import NODE


class Kept(Source):
    """Another source, of which each row that a keep-list names has a verdict. Keys stay as they are."""

    def __init__(self, source: Source, names: Sequence[str]) -> None:
        self._source = source
        self._lists = tuple(KeepList.open(name) for name in names)
        self.parts = source.parts
        self.gives = source.gives
        self.reasons = {**source.reasons, **DUPLICATES}
        digests = {f"keep-list {number}": part.digest for number, part in enumerate(self._lists)}
        self.settings = {**source.settings, **digests}

    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows; one that a list names is dropped for the list's reason, which names the row kept."""
        rows = self._source.read(unit)
        for keep in self._lists:
            duplicates = keep.among([row.record.key for row in rows if row.verdict is None])
            rows = [_judge(row, duplicates[row.record.key]) if row.record.key in duplicates else row for row in rows]
        return rows


def _judge(row: Row, why: tuple[str, str]) -> Row:
    reason, kept = why
    if row.verdict:
        return row
    verdict = Verdict(kind="dropped", node=NODE, reason=reason, message=f"repeats {kept}")
    return Row(record=replace(row.record, original=None), verdict=verdict)
