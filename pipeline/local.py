"""Run a job in this process, one unit at a time: for tests, debugging and small machines."""

from collections.abc import Iterator, Sequence

from manifests.shard import UnitRecord
from pipeline.actor import FatalError, Work, Worker
from pipeline.job import Job
from pipeline.sources.base import Unit


def run_local(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
    """Do units in order, yielding each as it is committed.

    A stage that hangs ends this process, see :class:`pipeline.watchdog.Watchdog`: there is no other to isolate it in.

    Raises:
        FatalError: If the run must stop.
    """
    workers = [Worker(job.plan, group) for group in job.plan.groups]
    for unit in units:
        work = job.read(unit)
        for worker in workers:
            work = _run(worker, work)
        yield job.finish(work)


def _run(worker: Worker, work: Work) -> Work:
    try:
        return worker.run(work)
    except MemoryError as error:
        raise FatalError(
            f"unit {work.unit.name}, nodes {worker.group.name}: {error!r}. A record that asks for too much memory is "
            "found and failed on Ray (without --local)"
        ) from error
