"""Which fields of a record, and of its subjects, the shards of a run fill."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from manifests.unit_record import UnitRecord
from pipeline.ledger import Layout
from pipeline.members import list_members, read_members
from stages import STAGES
from stages.base import field_names


def fields_given(layout: Layout, units: Sequence[UnitRecord]) -> frozenset[str]:
    """Record fields, and ``subjects.x`` fields, that are there: by the samples of the first shard that has any, and
    by what the steps they went through write.
    """
    first = next(unit.name for unit in units if unit.kept)
    members = list_members(layout.index(first), lambda name: name == "json")
    given: set[str] = {"steps"}
    for _, data in read_members(layout.tar(first), members):
        plain = json.loads(data)
        given |= _filled(plain) | {name for step in plain["steps"] for name in _written(step["stage"])}
    return frozenset(given - {"original", "schema_version", "bucket", "key", "source", "row"})


def _filled(plain: Mapping[str, Any]) -> set[str]:
    subjects = plain["subjects"] or []
    parts = {f"subjects.{name}" for subject in subjects for name, value in subject.items() if value is not None}
    return {name for name, value in plain.items() if value not in (None, [])} | parts


def _written(stage: str) -> Iterator[str]:
    """What a step of this stage writes; of a stage that is no more, nothing is known."""
    if known := STAGES.get(stage):
        yield from field_names(known.Out)
        yield from (f"subjects.{name}" for name in known.writes_to_subjects)
