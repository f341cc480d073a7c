"""Find the records that kill their worker, or never let go of it: units done alone, watched by who drives them."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, WorkerCrashedError

from manifests.files import AnyPath, open_path, write_atomically
from manifests.record import canonical_json, to_plain
from manifests.shard import UnitRecord
from pipeline.actor import FatalError
from pipeline.job import Done, Job
from pipeline.ledger import Layout
from pipeline.lone import Death, LoneGroup
from pipeline.sources.base import Unit


def isolate(job: Job, units: Sequence[Unit], parallel: int) -> Iterator[UnitRecord]:
    """Do each unit alone until it is committed, so many at a time.

    A record that kills its worker whenever it is alone in it is failed as ``worker_crash``, one that a stage does not
    return from as ``worker_hang``. A death that does not come again is no record's fault.

    Raises:
        FatalError: If the run must stop, or workers die while they work on no single record.
    """
    task = ray.remote(_isolate_unit).options(num_cpus=0)
    shared, waiting = ray.put(job), iter(units)
    running = [task.remote(shared, unit) for unit in islice(waiting, parallel)]
    while running:
        (ended,), running = ray.wait(running)
        running += [task.remote(shared, unit) for unit in islice(waiting, 1)]
        yield _record(ended)


def _record(ended: Any) -> UnitRecord:
    try:
        done: Done = ray.get(ended)
    except (WorkerCrashedError, OutOfMemoryError) as error:
        raise FatalError(f"a unit's source cannot be read alone: its process dies ({error})") from error
    return done.read()


def _isolate_unit(job: Job, unit: Unit) -> Done:
    """Read, do and commit one unit; a Ray task that drives the unit's workers."""
    journal = _Journal(Layout(open_path(job.commit.root)).isolation(unit.name))
    work = job.read(unit)
    try:
        for position in range(len(job.plan.groups)):
            work = LoneGroup(job.plan, position, journal.add).run(work)
    except FatalError as error:
        return Done(unit=unit.number, fatal=str(error))
    journal.close()
    return job.done(work)


class _Journal:
    """The deaths so far in a file, for `status` and whoever wants to know; it is there while the unit is isolated."""

    def __init__(self, path: AnyPath) -> None:
        self._path = path
        self._deaths: tuple[Death, ...] = ()
        self._write()

    def add(self, death: Death) -> None:
        self._deaths += (death,)
        self._write()

    def _write(self) -> None:
        write_atomically(self._path, canonical_json(to_plain(self._deaths)).encode())

    def close(self) -> None:
        self._path.unlink(missing_ok=True)
