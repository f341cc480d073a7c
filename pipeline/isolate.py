"""Find the record that kills its worker: do a unit alone, record by record, with a journal that outlives the worker."""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from manifests.files import AnyPath, open_path, write_atomically
from manifests.record import Row, Verdict
from manifests.shard import UnitRecord
from pipeline.actor import WORKER_CRASH, FatalError, Worker
from pipeline.job import Job
from pipeline.ledger import Layout
from pipeline.plan import Plan
from pipeline.sources.base import Unit

_Guilty = Mapping[str, str]
"""The node at which each key is known to kill its worker."""


def isolate(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
    """Do each unit in a worker of its own until it is committed.

    A record that kills the worker is failed as ``worker_crash`` and the unit begun again without it, so a unit costs
    one worker more than it has guilty records.

    Raises:
        FatalError: If the run must stop, or a worker dies while it works on no single record.
    """
    for unit in units:
        yield _isolate_unit(job, unit)


def _isolate_unit(job: Job, unit: Unit) -> UnitRecord:
    journal = Layout(open_path(job.commit.root)).isolation(unit.name)
    guilty: dict[str, str] = {}
    while True:
        journal.unlink(missing_ok=True)
        worker = _remote_class(job.plan).remote(job, journal)
        try:
            done, fatal = ray.get(worker.run.remote(unit, guilty))
        except RayActorError:
            node, key = _last_entry(journal, unit)
            guilty[key] = node
            continue
        finally:
            ray.kill(worker)
        journal.unlink(missing_ok=True)
        if fatal is not None:
            raise FatalError(fatal)
        return UnitRecord.from_json(done, f"unit {unit.name}")


def _last_entry(journal: AnyPath, unit: Unit) -> tuple[str, str]:
    """The node and the key that were in the worker when it died."""
    if not journal.exists():
        raise FatalError(f"the worker of unit {unit.name} died before it had begun; see Ray's logs for the cause")
    node, keys = json.loads(journal.read_text())
    if len(keys) != 1:
        raise FatalError(f"node {node!r} kills its worker on the whole of unit {unit.name} ({len(keys)} records)")
    return node, keys[0]


def _remote_class(plan: Plan) -> Any:
    """The isolated worker as a Ray actor that reserves what the greediest step does."""
    resources = {name: amount for group in plan.groups for name, amount in group.resources.items()}
    return ray.remote(_IsolatedWorker).options(
        num_cpus=max(group.num_cpus for group in plan.groups),
        num_gpus=max(group.num_gpus for group in plan.groups),
        resources=resources,
        max_restarts=0,
    )


class _IsolatedWorker:
    """All groups of a plan in one process, one record at a time."""

    def __init__(self, job: Job, journal: AnyPath) -> None:
        self._job = job
        self._journal = journal
        self._workers = [Worker(self._job.plan, group, self._note) for group in self._job.plan.groups]

    def _note(self, node: str, rows: Sequence[Row]) -> None:
        if rows:
            write_atomically(self._journal, json.dumps([node, [row.record.key for row in rows]]).encode())

    def run(self, unit: Unit, guilty: _Guilty) -> tuple[str | None, str | None]:
        """The unit's record as JSON, or why the run must stop."""
        work = self._job.read(unit)
        work = dataclasses.replace(work, rows=tuple(_judge(row, guilty) for row in work.rows))
        for worker in self._workers:
            work = worker.run(work)
        try:
            return self._job.finish(work).to_json(), None
        except FatalError as error:
            return None, str(error)


def _judge(row: Row, guilty: _Guilty) -> Row:
    node = guilty.get(row.record.key)
    if node is None:
        return row
    message = "the worker died each time it came to this record; the others of its unit were not harmed"
    verdict = Verdict(kind="failed", node=node, reason=WORKER_CRASH, message=message)
    return Row(record=dataclasses.replace(row.record, original=None), verdict=verdict)
