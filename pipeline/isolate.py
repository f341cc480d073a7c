"""Find the records that kill their worker, or never let go of it: units done alone, watched by who drives them."""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import ray

from manifests.files import open_path
from manifests.unit_record import UnitRecord
from pipeline.actor import FatalError
from pipeline.job import Done, Job
from pipeline.journal import Journal
from pipeline.ledger import Layout
from pipeline.live import Live
from pipeline.lone import LoneGroup
from pipeline.plan import Group
from pipeline.room import PATIENCE_S, lacking, taken
from pipeline.sources.base import Unit

_log = logging.getLogger(__name__)

_TELL_EVERY_S = 120.0
"""So often it is told that nothing can go on, while no unit ends."""


def isolate(job: Job, units: Sequence[Unit], parallel: int, live: Live) -> Iterator[UnitRecord]:
    """Do each unit alone until it is committed, so many at a time; how many they are goes into ``live``.

    A record that kills its worker whenever it is alone in it is failed as ``worker_crash``, one that a stage does not
    return from as ``worker_hang``. A death that does not come again is no record's fault.

    Raises:
        FatalError: If the run must stop, or workers die while they work on no single record.
    """
    task = ray.remote(_isolate_unit).options(num_cpus=0, max_retries=-1)  # the journal sees to an end
    shared, waiting = ray.put(job), iter(units)
    running = [task.remote(shared, unit) for unit in islice(waiting, parallel)]
    while running:
        live.in_flight = {"isolation": len(running)}
        ended, running = ray.wait(running, timeout=_TELL_EVERY_S)
        if not ended:
            _tell_waiting(job.plan.groups)
        running += [task.remote(shared, unit) for unit in islice(waiting, len(ended))]
        yield from map(_record, ended)
    live.in_flight = {}


def _tell_waiting(groups: Sequence[Group]) -> None:
    for group in groups:
        if why := lacking(group):
            _log.warning("Isolation: %s. It waits for one up to %g h at a time.", why, PATIENCE_S / 3600)
        elif why := taken(group):
            _log.warning("Isolation: %s. It goes on when its own workers or other jobs' give them back.", why)


def _record(ended: Any) -> UnitRecord:
    done: Done = ray.get(ended)
    return done.read()


def _isolate_unit(job: Job, unit: Unit) -> Done:
    """Read, do and commit one unit; a Ray task that drives the unit's workers, and may die itself and be done again."""
    try:
        path = Layout(open_path(job.commit.root)).isolation(unit.name)
        journal = Journal(path, ray.get_runtime_context().get_job_id())
        work = job.read(unit)
        for position in range(len(job.plan.groups)):
            work = LoneGroup(job.plan, position, journal).run(work)
    except FatalError as error:
        return Done(unit=unit.number, fatal=str(error))
    journal.close()
    return job.done(work)
