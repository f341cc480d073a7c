"""Run a job on Ray Data's streaming executor: a unit is one row of one block through every operator."""

import gc
import logging
import math
import os
import pickle
import signal
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, Datasource, TaskPoolStrategy
from ray.data.block import BlockMetadata
from ray.data.datasource import ReadTask
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from manifests.files import open_path
from manifests.unit_record import UnitRecord
from pipeline.actor import FatalError, Work, Worker
from pipeline.isolate import isolate
from pipeline.job import Done, Job
from pipeline.ledger import Layout
from pipeline.live import Live
from pipeline.plan import Group, Step
from pipeline.sources.base import Unit
from pipeline.spill import watching_spills
from pipeline.under_way import counting_units

_log = logging.getLogger(__name__)

_NO_PROGRESS_S = 2 * 3600
"""Ray Data's guard against a run that stands still, at least so much. It ticks while a cluster scales up, too."""

_LEAST_READERS, _MAX_READERS, _UNITS_A_READER = 2, 8, 4
"""Units read at once, by the number of CPUs and of units. Readers reserve none: workers that fill a machine must never
keep them from starting. Each is a process, which costs more to start than most units to read."""

_MOST_UNITS_A_TASK = 16
"""Units that one task reads, in a run of many: a task costs the driver as much as a worker's call does, and Ray Data
makes all tasks of a run before the first begins. When a machine is lost with a block, its whole task is done again."""

_BLOCK_BYTES = 1
"""So small that a row, which is a unit, is a block of its own. Without a bound, all that a task reads becomes one."""


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


_SCHEMA = pa.schema([("pickled", pa.large_binary())])
"""A block on its way through Ray Data. Columns for all fields would cost more than most stages, and none reads them."""


def _table(values: Sequence[Work | Done]) -> pa.Table:
    return pa.table([[pickle.dumps(value, protocol=5) for value in values]], schema=_SCHEMA)


def _values(table: pa.Table) -> list[Any]:
    """What :func:`_table` was given."""
    return [pickle.loads(scalar.as_buffer()) for scalar in table["pickled"]]  # noqa: S301  (our own workers')


class _UnitSource(Datasource):  # type: ignore[misc]  # Ray ships no types
    """A read task for some neighbouring units, each of which it gives as a block of its own as soon as it is read."""

    def __init__(self, job: Job, units: Sequence[Unit], per_task: int) -> None:
        super().__init__()
        self._job = job
        self._shares = [units[start : start + per_task] for start in range(0, len(units), per_task)]

    @property
    def tasks(self) -> int:
        """How many read tasks there are."""
        return len(self._shares)

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        job = ray.put(self._job)
        return [ReadTask(partial(_read, job, share), _about(len(share)), schema=_SCHEMA) for share in self._shares]


def _about(units: int) -> BlockMetadata:
    return BlockMetadata(num_rows=units, size_bytes=None, input_files=None, exec_stats=None)


def _read(job: Any, units: Sequence[Unit]) -> Iterator[pa.Table]:
    fetched = ray.get(job)
    for unit in units:
        yield _table([fetched.read(unit)])


class _GroupWorker:
    """A worker of one group as Ray Data calls it; the last group's also commits."""

    def __init__(self, job: Job, position: int) -> None:
        groups = job.plan.groups
        self._job = job
        self._worker = Worker(job.plan, groups[position])
        self._is_last = position == len(groups) - 1

    def __call__(self, block: pa.Table) -> pa.Table:
        works = [self._worker.run(work) for work in _values(block)]
        return _table([self._job.done(work) for work in works] if self._is_last else works)


def run_on_ray(job: Job, units: Sequence[Unit], options: RayOptions, live: Live | None = None) -> Iterator[UnitRecord]:
    """Do units in any order, yielding each as it is committed; what is under way goes into ``live``.

    A unit whose worker dies twice is done again in isolation, after everything else; so is at once one that an
    interrupted run was isolating.

    Raises:
        FatalError: If the run must stop.
    """
    live = live or Live()
    started = not ray.is_initialized()
    if started:
        _connect(options)
    try:
        _check_resources(job.plan.groups, options, len(units))
        with watching_spills(live):
            yield from _do(job, units, options, live)
        _tell_spilled(live.spilled)
    finally:
        if started:
            ray.shutdown()


def _do(job: Job, units: Sequence[Unit], options: RayOptions, live: Live) -> Iterator[UnitRecord]:
    left = {unit.number: unit for unit in units}
    suspects = set(Layout(open_path(job.commit.root)).isolated())
    for record in _stream(job, [unit for unit in units if unit.name not in suspects], options, live):
        del left[record.unit]
        yield record
    if left:
        gc.collect()  # Ray Data's workers end once nothing refers to them; cycles would keep what they reserve for long
        yield from isolate(job, tuple(left.values()), _most_workers(job.plan.groups, options, len(left)), live)


def _tell_spilled(count: int) -> None:
    if count:
        _log.warning(
            "Ray wrote %.2f GB from its object store to disk, as the units under way did not fit. If that slows the "
            "run down: smaller unit_rows, fewer workers before the slowest node, or a Ray with a larger object store.",
            count / 1e9,
        )


def _stream(job: Job, units: Sequence[Unit], options: RayOptions, live: Live) -> Iterator[UnitRecord]:
    if not units:
        return
    dataset = _dataset(job, units, options, live)
    try:
        for bundle in dataset.iter_internal_ref_bundles():  # a fifth cheaper than iter_batches
            for table in ray.get(list(bundle.block_refs)):
                yield from (done.read() for done in _values(table))
    except ExecutionTimeoutError as error:
        raise FatalError(
            f"no unit has come any further for {dataset.context.execution_no_progress_timeout_s / 3600:.1f} h. Do the "
            "machines there are have what the workers reserve (`python -m pipeline check` shows it), and do they still "
            "answer? What is committed stays: the same command goes on"
        ) from error


def _connect(options: RayOptions) -> None:
    address = _address(options)
    _probe(address)
    if options.quiet:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray warns of its own actors' arguments on stderr
    try:
        with _sigterm_as_before():
            ray.init(
                address=address,
                log_to_driver=not options.quiet,
                logging_level=logging.ERROR if options.quiet else logging.INFO,
                **({"include_dashboard": False} if address == "local" else {}),
            )
    except (ValueError, RuntimeError, ConnectionError, RayError) as error:
        hint = "; is its token the one here (RAY_AUTH_MODE, RAY_AUTH_TOKEN_PATH)?" if ":" in address else ""
        raise FatalError(f"cannot reach Ray at {address!r}: {error}{hint}") from error


@contextmanager
def _sigterm_as_before() -> Iterator[None]:
    """Keep who handles SIGTERM: Ray sets a handler of its own, which exits without a word, and may do so meanwhile."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as error:
        raise KeyboardInterrupt from error
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _probe(address: str) -> None:
    """Refuse an address nobody answers at; Ray itself would wait for minutes.

    Raises:
        FatalError: Naming the address.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise FatalError(f"no Ray answers at {address}: {error}; is it started, and is this its GCS address?") from None


def _check_resources(groups: Sequence[Group], options: RayOptions, units: int) -> None:
    """Refuse a plan whose least workers cannot all run here at once: Ray would wait for ever, without a word.

    Only where no machine can join; a cluster may still scale up.

    Raises:
        FatalError: Naming the resource, what is needed and what there is.
    """
    if _address(options) != "local":
        return
    needed: Counter[str] = Counter()
    for group in groups:
        least = _pool(group, options, units).min_size
        needed.update({name: least * amount for name, amount in group.reserves.items()})
    have = ray.cluster_resources()
    for name, amount in needed.items():
        if amount > have.get(name, 0):
            workers = ", ".join(group.name for group in groups)
            raise FatalError(
                f"the least workers of {workers} reserve {amount:g} {name} at once, this machine has "
                f"{have.get(name, 0):g}; lower num_cpus, num_gpus, resources or workers of the nodes, or give --address"
            )


def _most_workers(groups: Sequence[Group], options: RayOptions, units: int) -> int:
    """Workers of the scarcest group that can run here at once, at least one."""
    have = ray.cluster_resources()
    most: list[int] = [_pool(group, options, units).max_size for group in groups]
    for group in groups:
        most += [int(have.get(name, 0) / amount) for name, amount in group.reserves.items()]
    return max(1, min(most))


def _address(options: RayOptions) -> str:
    return options.address or os.environ.get("RAY_ADDRESS") or "local"


def _dataset(job: Job, units: Sequence[Unit], options: RayOptions, live: Live) -> Dataset:
    """The units as a lazy dataset with one row a unit."""
    context = DataContext.get_current()
    context.target_max_block_size = _BLOCK_BYTES
    context.max_errored_blocks = -1
    context.execution_no_progress_timeout_s = _no_progress_s(job, max(unit.rows for unit in units))
    context.enable_progress_bars = False
    context.custom_execution_callback_classes = [counting_units(live, [group.name for group in job.plan.groups])]
    context.print_on_execution_start = not options.quiet
    readers = _readers(len(units), int(ray.cluster_resources().get("CPU", 0)))
    source = _UnitSource(job, units, _units_a_task(len(units), readers))
    dataset = ray.data.read_datasource(
        source, override_num_blocks=source.tasks, num_cpus=0, compute=TaskPoolStrategy(size=readers)
    )
    for position, group in enumerate(job.plan.groups):
        dataset = _through(dataset, job, position, _pool(group, options, len(units)))
    return dataset


def _no_progress_s(job: Job, rows: int) -> float:
    """Seconds without a unit that came any further: more than a unit of so many rows may take by its deadlines."""
    slowest = max(sum(_most_s(step, rows) for step in group.steps) for group in job.plan.groups)
    return max(_NO_PROGRESS_S, job.read_deadline_s, slowest + job.commit_deadline_s)


def _most_s(step: Step, rows: int) -> float:
    batches = 1 if step.stage.takes_unit else math.ceil(rows / step.node.batch_size)
    return step.node.load_deadline_s + batches * step.node.batch_deadline_s


def _through(dataset: Dataset, job: Job, position: int, pool: ActorPoolStrategy) -> Dataset:
    """The dataset after a group of workers."""
    group = job.plan.groups[position]
    with warnings.catch_warnings():
        # max_task_retries has no other way in yet: https://github.com/ray-project/ray, Ray Data 2.60
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return dataset.map_batches(
            _GroupWorker,
            fn_constructor_args=(job, position),
            batch_size=1,
            batch_format="pyarrow",
            compute=pool,
            num_cpus=group.num_cpus,
            num_gpus=group.num_gpus or None,
            resources=group.resources or None,
            max_task_retries=1,
        )


def _readers(units: int, cpus: int) -> int:
    return min(units, max(_LEAST_READERS, min(_MAX_READERS, cpus, units // _UNITS_A_READER)))


def _units_a_task(units: int, readers: int) -> int:
    """So few that at the end of a run no reader has long to read while the others are done."""
    return min(_MOST_UNITS_A_TASK, max(1, units // (4 * readers)))


def _pool(group: Group, options: RayOptions, units: int) -> ActorPoolStrategy:
    least, most = group.worker_range
    if options.workers and not group.num_gpus:
        least = most = options.workers
    return ActorPoolStrategy(min_size=min(least, units), max_size=most)
