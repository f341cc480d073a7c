"""A group of steps with one unit and a worker of its own, which may die.

Whoever drives holds the rows, and hands the worker one batch of one step at a time: it knows what was in a worker that
died, and loses nothing by it.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError

from manifests.histogram import EMPTY
from manifests.record import Row, Verdict
from manifests.unit_record import StepCount
from pipeline.actor import WORKER_CRASH, WORKER_HANG, FatalError, Work, Worker, downloaded, lighten
from pipeline.hosts import host_errors, worst
from pipeline.journal import Death, Journal
from pipeline.plan import Plan, Step
from pipeline.room import answer

_TRIES = 2
"""A record is guilty once it was alone in so many workers that died: one may have died of its neighbours' hunger."""

_LOADS = 3
"""Workers of a group that may die in a row before they have done anything."""

_MESSAGES = {
    WORKER_CRASH: "the worker died each time it was alone with this record; the others of its unit were not harmed",
    WORKER_HANG: "the stage never returned from this record alone; the others of its unit were not harmed",
}


class _DiedError(Exception):
    """The worker is gone."""


class LoneGroup:
    """One group's way with one unit. Holds a worker only while :meth:`run` runs, and then at most one."""

    def __init__(self, plan: Plan, position: int, journal: Journal) -> None:
        self._plan = plan
        self._position = position
        self._group = plan.groups[position]
        self._journal = journal
        self._worker: Any = None
        self._guilty = 0

    def run(self, work: Work) -> Work:
        """The unit after the group's steps.

        Raises:
            FatalError: If the run must stop.
        """
        if work.fatal is not None:
            raise FatalError(work.fatal)
        rows, counts = list(work.rows), []
        try:
            for step in self._group.steps:
                rows, count = self._step(step, rows)
                counts.append(count)
        finally:
            self._end()
        self._journal.leave()
        light = lighten(self._plan, self._group, rows)
        return Work(unit=work.unit, rows=light, steps=(*work.steps, *counts))

    def _step(self, step: Step, rows: Sequence[Row]) -> tuple[list[Row], StepCount]:
        alive = [row for row in rows if row.verdict is None]
        size = len(alive) if step.stage.takes_unit else step.node.batch_size
        self._counts: list[StepCount] = []
        after = [
            row for start in range(0, len(alive), size or 1) for row in self._batch(step, alive[start : start + size])
        ]
        count = StepCount(
            node=step.node.id,
            records_in=len(alive),
            records_out=sum(row.verdict is None for row in after),
            seconds=round(sum(count.seconds for count in self._counts), 6),
            downloaded=downloaded(step, after),
            batches=sum((count.batches for count in self._counts), EMPTY),
            records=sum((count.records for count in self._counts), EMPTY),
            hosts=worst(host_errors(step, after)),
        )
        processed = iter(after)
        return [row if row.verdict else next(processed) for row in rows], count

    def _batch(self, step: Step, rows: Sequence[Row]) -> list[Row]:
        """The rows after the step: together if they can be, else each alone."""
        if step.stage.takes_unit:
            return self._whole(step, rows)
        if len(rows) > 1 and (after := self._tried(step, rows, 1)):
            return after
        return [self._alone(step, row) for row in rows]

    def _tried(self, step: Step, rows: Sequence[Row], tries: int) -> list[Row]:
        """The rows after the step, if a worker outlives them before so many have died of just these; else none."""
        keys = _keys(rows)
        while len(self._journal.deaths_of(step.node.id, keys)) < tries:
            try:
                return self._call(step, rows)
            except _DiedError:
                pass
        return []

    def _whole(self, step: Step, rows: Sequence[Row]) -> list[Row]:
        """The rows after a step that takes units whole: without those that its worker dies of also alone."""
        if after := self._tried(step, rows, _TRIES):
            return after
        counts = list(self._counts)
        failed = {row.record.key: row for row in (self._alone(step, row) for row in rows) if _is_guilty(row)}
        self._counts = counts
        rest = [row for row in rows if row.record.key not in failed]
        after = self._tried(step, rest, _TRIES) if failed and rest else []
        if rest and not after:
            death = self._journal.deaths_of(step.node.id, _keys(rest))[-1]
            raise FatalError(
                f"node {step.node.id!r} takes units whole, and its worker dies on one ({death.reason}, {len(rest)} "
                "records), but on none of its records alone"
            )
        processed = iter(after)
        return [failed.get(row.record.key) or next(processed) for row in rows]

    def _alone(self, step: Step, row: Row) -> Row:
        if after := self._tried(step, [row], _TRIES):
            return after[0]
        death = self._journal.deaths_of(step.node.id, _keys([row]))[-1]
        self._count_guilty(death)
        verdict = Verdict(kind="failed", node=death.node, reason=death.reason, message=_MESSAGES[death.reason])
        return Row(record=replace(row.record, original=None), verdict=verdict)

    def _count_guilty(self, death: Death) -> None:
        """Refuse to blame record after record for what must be the stage or the machine."""
        self._guilty += 1
        if self._guilty >= self._plan.max_consecutive_failures:
            raise FatalError(
                f"node {death.node!r} lost its worker to {self._guilty} records in a row ({death.reason}). Is the "
                "stage broken, or the machine out of memory? If this is what the data is like, raise "
                "max_consecutive_failures in the manifest"
            )

    def _call(self, step: Step, rows: Sequence[Row]) -> list[Row]:
        """The rows after the step.

        Raises:
            FatalError: If the run must stop.
            _DiedError: If the worker did not live to tell, or what it told was lost with its machine.
        """
        worker = self._loaded()
        began = time.monotonic()
        self._journal.enter(step.node.id, _keys(rows))
        try:
            after, count, fatal = ray.get(worker.step.remote(self._group.steps.index(step), rows))
        except (RayActorError, ObjectLostError, OutOfMemoryError, MemoryError):
            self._end()
            is_hang = time.monotonic() - began >= step.node.batch_deadline_s
            self._journal.died(WORKER_HANG if is_hang else WORKER_CRASH)
            raise _DiedError from None
        if fatal is not None:
            raise FatalError(fatal)
        self._counts.append(count)
        self._guilty = 0
        return list(after)

    def _loaded(self) -> Any:
        """The worker, ready to work; a new one if there is none."""
        for _ in range(_LOADS):
            self._worker = self._worker or self._started()
            if self._worker is not None:
                return self._worker
        raise FatalError(f"nodes {self._group.name}: the worker dies before it has begun; see Ray's logs for the cause")

    def _started(self) -> Any:
        """A worker that has loaded its stages, reserving what those of the pool do; nothing if it died of that.

        Raises:
            FatalError: If the run must stop.
        """
        group = self._group
        actor = ray.remote(_LoneWorker).options(
            num_cpus=group.num_cpus, num_gpus=group.num_gpus, resources=group.resources, max_restarts=0
        )
        worker = actor.remote(self._plan, self._position)
        try:
            fatal = answer(worker.load.remote(), group)
        except (RayActorError, OutOfMemoryError):
            return None
        if fatal is not None:
            raise FatalError(fatal)
        return worker

    def _end(self) -> None:
        if self._worker is not None:
            ray.kill(self._worker)
            self._worker = None


def _is_guilty(row: Row) -> bool:
    return row.verdict is not None and row.verdict.reason in _MESSAGES


def _keys(rows: Sequence[Row]) -> list[str]:
    return [row.record.key for row in rows]


class _LoneWorker:
    """A group's worker that does one batch of one step at a time."""

    def __init__(self, plan: Plan, position: int) -> None:
        self._worker = Worker(plan, plan.groups[position])

    def load(self) -> str | None:
        """Load the stages. Why the run must stop, if it must."""
        try:
            self._worker.load()
        except FatalError as error:
            return str(error)
        return None

    def step(self, index: int, rows: Sequence[Row]) -> tuple[Sequence[Row], StepCount | None, str | None]:
        """The rows after a step, what it did, and why the run must stop, if it must."""
        try:
            after, count = self._worker.run_step(index, rows)
        except FatalError as error:
            return (), None, str(error)
        return after, count, None
