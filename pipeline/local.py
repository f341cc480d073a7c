"""Run a job in this process, one unit at a time: for tests, debugging and small machines."""

from collections.abc import Iterator, Sequence

from manifests.unit_record import UnitRecord
from pipeline.actor import FatalError, Work, Worker
from pipeline.job import Job
from pipeline.live import Live
from pipeline.sources.base import Unit


def run_local(job: Job, units: Sequence[Unit], live: Live | None = None) -> Iterator[UnitRecord]:
    """Do units in order, yielding each as it is committed; what is under way goes into ``live``.

    A stage that hangs ends this process, see :class:`pipeline.watchdog.Watchdog`: there is no other to isolate it in.

    Raises:
        FatalError: If the run must stop.
    """
    live = live or Live()
    workers = [Worker(job.plan, group) for group in job.plan.groups]
    for unit in units:
        live.in_flight = {"source": 1}
        work = job.read(unit)
        for worker in workers:
            live.in_flight = {worker.group.name: 1}
            work = _run(worker, work)
        record = job.finish(work)
        live.in_flight = {}
        yield record


def _run(worker: Worker, work: Work) -> Work:
    try:
        return worker.run(work)
    except MemoryError as error:
        raise FatalError(
            f"unit {work.unit.name}, nodes {worker.group.name}: {error!r}. A record that asks for too much memory is "
            "found and failed on Ray (without --local)"
        ) from error
