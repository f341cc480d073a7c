"""Run a job in this process, one unit at a time: for tests, debugging and small machines."""

from collections.abc import Iterator

from manifests.shard import UnitRecord
from pipeline.actor import Worker
from pipeline.job import Job


def run_local(job: Job) -> Iterator[UnitRecord]:
    """Do the job's units in order, yielding each as it is committed.

    Raises:
        FatalError: If the run must stop.
    """
    workers = [Worker(job.plan, group) for group in job.plan.groups]
    for unit in job.units:
        work = job.read(unit)
        for worker in workers:
            work = worker.run(work)
        yield job.finish(unit, work)
