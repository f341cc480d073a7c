"""Run a job on Ray Data's streaming executor: a unit is one row of one block through every operator."""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask

from manifests.record import arrow_schema, from_plain, to_plain
from manifests.shard import UnitRecord
from pipeline.actor import FatalError, Work, Worker
from pipeline.job import Job
from pipeline.plan import Group
from pipeline.sources.base import Unit

_NO_PROGRESS_S = 2 * 3600
"""Ray Data's guard against a run that stands still. It also ticks while a cluster scales up and models load."""

_READ_CPUS = 0.25
"""Reading metadata is light; a whole core would keep a small machine from running any stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RayOptions:
    """How to reach Ray and how much of it to use.

    Attributes:
        address: A cluster's address; without one, ``RAY_ADDRESS``, else a Ray of this process alone.
        workers: Workers of each CPU group, instead of what the nodes say.
        quiet: Keep Ray's own log lines off this terminal.
    """

    address: str | None = None
    workers: int | None = None
    quiet: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """What the last operator says of a unit: the JSON of its record, or why the run must stop."""

    unit: int
    record: str | None = None
    fatal: str | None = None


_WORK_SCHEMA = arrow_schema(Work)
_DONE_SCHEMA = arrow_schema(_Done)


def _table(value: Work | _Done) -> pa.Table:
    schema = _WORK_SCHEMA if isinstance(value, Work) else _DONE_SCHEMA
    return pa.Table.from_pylist([to_plain(value)], schema=schema)


class _UnitSource(Datasource):  # type: ignore[misc]  # Ray ships no types
    """One read task, and so one block, a unit."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        job = ray.put(self._job)
        about = BlockMetadata(num_rows=1, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(partial(_read, job, unit), about, schema=_WORK_SCHEMA) for unit in self._job.units]


def _read(job: Any, unit: Unit) -> list[pa.Table]:
    return [_table(ray.get(job).read(unit))]


class _GroupWorker:
    """A worker of one group as Ray Data calls it; the last group's also commits."""

    def __init__(self, job: Any, position: int) -> None:
        self._job: Job = ray.get(job[0])
        groups = self._job.plan.groups
        self._worker = Worker(self._job.plan, groups[position])
        self._units = {unit.number: unit for unit in self._job.units} if position == len(groups) - 1 else {}

    def __call__(self, block: pa.Table) -> pa.Table:
        works = [self._worker.run(from_plain(Work, plain)) for plain in block.to_pylist()]
        results = [self._finish(work) if self._units else work for work in works]
        return pa.concat_tables([_table(result) for result in results])

    def _finish(self, work: Work) -> _Done:
        try:
            return _Done(unit=work.unit, record=self._job.finish(self._units[work.unit], work).to_json())
        except FatalError as error:
            return _Done(unit=work.unit, fatal=str(error))


def run_on_ray(job: Job, options: RayOptions) -> Iterator[UnitRecord]:
    """Do the job's units in any order, yielding each as it is committed.

    A unit whose worker dies twice is left out; everything else is done.

    Raises:
        FatalError: If the run must stop.
    """
    started = not ray.is_initialized()
    if started:
        _connect(options)
    try:
        for batch in _dataset(job, options).iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
            done: _Done = from_plain(_Done, batch.to_pylist()[0])
            if done.record is None:
                raise FatalError(done.fatal)
            yield UnitRecord.from_json(done.record, f"unit {done.unit}")
    finally:
        if started:
            ray.shutdown()


def _connect(options: RayOptions) -> None:
    address = options.address or os.environ.get("RAY_ADDRESS") or "local"
    if options.quiet:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
    ray.init(
        address=address,
        log_to_driver=not options.quiet,
        logging_level=logging.ERROR if options.quiet else logging.INFO,
        **({"include_dashboard": False} if address == "local" else {}),
    )


def _dataset(job: Job, options: RayOptions) -> Dataset:
    """The job as a lazy dataset with one row a unit."""
    context = DataContext.get_current()
    context.target_max_block_size = None
    context.max_errored_blocks = -1
    context.execution_no_progress_timeout_s = _NO_PROGRESS_S
    context.enable_progress_bars = False
    context.print_on_execution_start = not options.quiet
    dataset = ray.data.read_datasource(
        _UnitSource(job), override_num_blocks=len(job.units), ray_remote_args={"num_cpus": _READ_CPUS}
    )
    shared = [ray.put(job)]
    for position, group in enumerate(job.plan.groups):
        dataset = dataset.map_batches(
            _GroupWorker,
            fn_constructor_args=(shared, position),
            batch_size=1,
            batch_format="pyarrow",
            compute=_pool(group, options),
            num_cpus=group.num_cpus,
            num_gpus=group.num_gpus or None,
            resources=group.resources or None,
            max_restarts=-1,
            max_task_retries=1,
        )
    return dataset


def _pool(group: Group, options: RayOptions) -> ActorPoolStrategy:
    least, most = group.worker_range
    if options.workers and not group.num_gpus:
        least = most = options.workers
    return ActorPoolStrategy(min_size=least, max_size=most)
