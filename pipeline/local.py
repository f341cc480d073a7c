"""Run a job in this process, one unit at a time: for tests, debugging and small machines."""

from collections.abc import Iterator, Sequence

from manifests.shard import UnitRecord
from pipeline.actor import Worker
from pipeline.job import Job
from pipeline.sources.base import Unit


def run_local(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
    """Do units in order, yielding each as it is committed.

    Raises:
        FatalError: If the run must stop.
    """
    workers = [Worker(job.plan, group) for group in job.plan.groups]
    for unit in units:
        work = job.read(unit)
        for worker in workers:
            work = worker.run(work)
        yield job.finish(work)
