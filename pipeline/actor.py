"""Steps in one worker: batches, per-record errors, and the policy for what an error means."""

import errno
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from manifests.histogram import Histogram
from manifests.record import Record, Row, Verdict, changed
from manifests.unit_record import StepCount
from pipeline.hosts import Errors, host_errors, host_of, worst
from pipeline.plan import Group, Plan, Step
from pipeline.sources.base import Unit
from pipeline.thumbnail import thumbnail
from pipeline.watchdog import Watchdog
from stages.base import Context, Drop, Fail, Stage, field_names, required_fields
from stages.outdated import without_outdated

WORKER_CRASH = "worker_crash"
"""Failure reason of a record that killed the process it was in."""

WORKER_HANG = "worker_hang"
"""Failure reason of a record that a stage did not come back from."""

STAGE_ERROR = "stage_error"
"""Failure reason of a record whose stage raised; the message holds the traceback's end."""

MISSING_FIELD = "missing_field"
"""Failure reason of a record without a value that the stage reads and an earlier step left empty."""

ENGINE_REASONS = {
    STAGE_ERROR: "The stage raised an exception on this record; see its message.",
    WORKER_CRASH: "The process that worked on this record died, twice when it had nothing else to do.",
    WORKER_HANG: "The stage did not return within batch_deadline_s, twice when it had nothing else to do.",
    MISSING_FIELD: "A field that the stage reads is empty in this record.",
}

_BUGS = (ImportError, NameError, NotImplementedError)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class FatalError(Exception):
    """The code or the setup is wrong: the run stops, and what is committed stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A unit on its way through the workers: its rows, and what each step so far did.

    ``fatal`` ends the run with that message; the rows are then of no use.
    """

    unit: Unit
    rows: tuple[Row, ...]
    steps: tuple[StepCount, ...] = ()
    fatal: str | None = None


@dataclass(frozen=True, slots=True)
class _Caught:
    """An exception, caught where records are processed."""

    error: Exception


class Worker:
    """Runs a group of adjacent steps on units. Stages are loaded with the first unit and kept."""

    def __init__(self, plan: Plan, group: Group) -> None:
        self.plan = plan
        self.group = group
        self._stages: list[_LoadedStep] = []

    def load(self) -> None:
        """Load the stages, if they are not.

        Raises:
            FatalError: If one cannot be.
        """
        if not self._stages:
            with Watchdog() as watchdog:
                self._stages = [_load(self.plan, step, watchdog) for step in self.group.steps]

    def run(self, work: Work) -> Work:
        """The unit after this group's steps.

        Never raises for what a record or a stage does, but for want of memory.

        Raises:
            MemoryError: In which the record at hand may have no part.
        """
        if work.fatal is not None:
            return work
        try:
            return self._run(work)
        except FatalError as error:
            return Work(unit=work.unit, rows=(), fatal=str(error))

    def _run(self, work: Work) -> Work:
        self.load()
        rows = list(work.rows)
        with Watchdog(f"unit {work.unit.name}, ") as watchdog:
            for run in _lockstep(self._stages):
                for start, stop in _chunks(len(rows), run[0].batch_size):
                    for stage in run:
                        rows[start:stop] = stage.run(rows[start:stop], watchdog)
        counts = [stage.take_count() for stage in self._stages]
        return Work(unit=work.unit, rows=lighten(self.plan, self.group, rows), steps=(*work.steps, *counts))

    def run_step(self, index: int, rows: Sequence[Row]) -> tuple[list[Row], StepCount]:
        """Rows after one step of the group, all at once, and what it did.

        Raises:
            FatalError: If the run must stop.
            MemoryError: As :meth:`run`.
        """
        self.load()
        with Watchdog() as watchdog:
            after = self._stages[index].run(rows, watchdog)
        return after, self._stages[index].take_count()


def lighten(plan: Plan, group: Group, rows: Iterable[Row]) -> tuple[Row, ...]:
    """The rows without what weighs much and no step after the group reads: downloaded files, the metadata's masks."""
    later = plan.reads_after(plan.steps.index(group.steps[-1]) + 1)
    return tuple(_lighten(row, later) for row in rows)


def downloaded(step: Step, rows: Iterable[Row]) -> int:
    """Bytes of the files that a step has just fetched, of the rows that it let through."""
    if not step.is_download:
        return 0
    return sum(len(row.record.original or b"") for row in rows if row.verdict is None)


def _lighten(row: Row, later: frozenset[str]) -> Row:
    record = row.record
    changes: dict[str, Any] = {}
    if record.original is not None and "original" not in later:
        changes["original"] = None
    if record.annotations and "annotations" not in later:
        changes["annotations"] = tuple(replace(annotation, mask=None) for annotation in record.annotations)
    return replace(row, record=replace(record, **changes)) if changes else row


def _chunks(count: int, size: int | None) -> Iterator[tuple[int, int]]:
    size = size or max(count, 1)
    return ((start, min(start + size, count)) for start in range(0, count, size))


def _lockstep(stages: Sequence["_LoadedStep"]) -> list[list["_LoadedStep"]]:
    """Neighbours with equal batch size, to be run chunk by chunk, so that what one decodes the next still has."""
    runs: list[list[_LoadedStep]] = []
    for stage in stages:
        if runs and runs[-1][-1].batch_size == stage.batch_size:
            runs[-1].append(stage)
        else:
            runs.append([stage])
    return runs


def _load(plan: Plan, step: Step, watchdog: Watchdog) -> "_LoadedStep":
    context = Context(device="cuda" if step.node.num_gpus else "cpu", seed=plan.seed)
    where = f"node {step.node.id!r} ({step.node.stage}) cannot be loaded"
    with watchdog.watch(step.node.load_deadline_s, lambda: f"{where} within load_deadline_s"):
        try:
            loaded = _attempt(where, lambda: step.stage.load(step.params, context))
        except MemoryError as error:
            raise FatalError(f"{where}: {_last_lines(error)}") from error
    if isinstance(loaded, _Caught):
        raise FatalError(f"{where}: {_last_lines(loaded.error)}")
    return _LoadedStep(step, loaded, plan.max_consecutive_failures)


class _LoadedStep:
    """A ready stage with its place in the DAG, its counts for the unit at hand and its failures in a row."""

    def __init__(self, step: Step, stage: Stage[Any, Any], max_consecutive_failures: int) -> None:
        self.node = step.node.id
        self.batch_size = None if step.stage.takes_unit else step.node.batch_size
        self._deadline_s = step.node.batch_deadline_s
        self.stage = stage
        self._required = required_fields(stage.In)
        self._reads, self._writes = field_names(stage.In), field_names(stage.Out)
        self._max_failures = max_consecutive_failures
        self._failures: Counter[str] = Counter()
        self._step = step
        self._in = self._out = self._downloaded = 0
        self._batches_s: list[float] = []
        self._errors: Errors = Counter()

    def run(self, rows: Sequence[Row], watchdog: Watchdog) -> list[Row]:
        """The rows, those without a verdict with what the stage wrote, or with its verdict."""
        alive = [row for row in rows if row.verdict is None]
        if not alive:
            return list(rows)
        began = time.perf_counter()
        with watchdog.watch(self._deadline_s, lambda: self._overdue(alive)):
            processed = self._run(alive)
        self._batches_s.append(time.perf_counter() - began)
        self._in += len(alive)
        self._out += sum(row.verdict is None for row in processed)
        self._downloaded += downloaded(self._step, processed)
        self._errors += host_errors(self._step, processed)
        rest = iter(processed)
        return [row if row.verdict else next(rest) for row in rows]

    def take_count(self) -> StepCount:
        """What was done since the last call."""
        count = StepCount(
            node=self.node,
            records_in=self._in,
            records_out=self._out,
            seconds=round(sum(self._batches_s), 6),
            downloaded=self._downloaded,
            batches=Histogram.of(self._batches_s),
            records=Histogram.of(self.stage.take_seconds()),
            hosts=worst(self._errors),
        )
        self._in = self._out = self._downloaded = 0
        self._batches_s, self._errors = [], Counter()
        return count

    def _run(self, rows: Sequence[Row]) -> list[Row]:
        results = self._results([self._view(row.record) for row in rows])
        blamed: set[str] = set()
        for row, result in zip(rows, results, strict=True):
            self._count(row.record, result, blamed)
        return [self._judge(row, result) for row, result in zip(rows, results, strict=True)]

    def _overdue(self, rows: Sequence[Row]) -> str:
        return (
            f"node {self.node!r} did not return within {self._deadline_s:g} s from records "
            f"{', '.join(row.record.key for row in rows)}. If that is how long it takes, raise its batch_deadline_s. "
            "On Ray (without --local) such records are found and failed, and the run goes on."
        )

    def _view(self, record: Record) -> Any:
        """What the stage reads of a record, or the failure that a field it needs is empty."""
        values = {name: getattr(record, name) for name in self._reads}
        empty = sorted(name for name in self._required if values[name] is None)
        return Fail(MISSING_FIELD, f"{', '.join(empty)} is empty") if empty else self.stage.In(**values)

    def _results(self, views: Sequence[Any]) -> list[Any]:
        """One result per view, in order: what the stage gave, or the failure to read or to process it."""
        whole = [view for view in views if not isinstance(view, Fail)]
        processed = iter(self._process(whole))
        return [view if isinstance(view, Fail) else next(processed) for view in views]

    def _process(self, views: Sequence[Any]) -> list[Any]:
        if not views:
            return []
        results = _attempt(f"node {self.node!r}", lambda: self.stage.process(views))
        if isinstance(results, _Caught):
            if len(views) == 1:
                return [Fail(STAGE_ERROR, _last_lines(results.error))]
            if self.batch_size is None:
                raise FatalError(f"node {self.node!r} failed on a whole unit: {_last_lines(results.error)}")
            return [result for view in views for result in self._process([view])]
        if len(results) != len(views):
            raise FatalError(f"node {self.node!r} returned {len(results)} results for {len(views)} records")
        return list(results)

    def _count(self, record: Record, result: Any, blamed: set[str]) -> None:
        """Count failures in a row, of downloads from one host only one a batch: a dead host is no broken node.

        Args:
            record: What the result is of.
            result: What the stage gave.
            blamed: Hosts of which one counts already; added to.
        """
        if not isinstance(result, Fail):
            self._failures.clear()
            return
        if self._step.is_download and result.reason not in ENGINE_REASONS and (host := host_of(record.url)):
            if host in blamed:
                return
            blamed.add(host)
        self._failures[f"{result.reason} ({result.message})" if result.reason == STAGE_ERROR else result.reason] += 1
        if self._failures.total() >= self._max_failures:
            kinds = ", ".join(f"{count} x {reason}" for reason, count in self._failures.most_common(5))
            raise FatalError(
                f"node {self.node!r} failed {self._failures.total()} records in a row: {kinds}. Is something broken or "
                "unreachable? If this is what the data is like, raise max_consecutive_failures in the manifest"
            )

    def _judge(self, row: Row, result: Any) -> Row:
        record = row.record
        if isinstance(result, Drop | Fail):
            if result.reason not in self.stage.reasons.keys() | ENGINE_REASONS.keys():
                raise FatalError(f"node {self.node!r} gave reason {result.reason!r}, which its stage does not declare")
            return reject(record, "dropped" if isinstance(result, Drop) else "failed", self.node, result)
        if not isinstance(result, self.stage.Out):
            raise FatalError(f"node {self.node!r} returned {type(result).__name__}, not {self.stage.Out.__name__}")
        after = changed(record, {name: getattr(result, name) for name in self._writes})
        return Row(record=without_outdated(after, self._writes))


def reject(record: Record, kind: Any, node: str, result: Drop | Fail) -> Row:
    """The record with its verdict and a thumbnail, without the pictures that no one needs any more."""
    message = result.message.encode("utf-8", "replace").decode()  # servers' headers may hold any bytes
    verdict = Verdict(kind=kind, node=node, reason=result.reason, message=message, thumbnail=thumbnail(record))
    slim = replace(record, original=None, image=None, subjects=None, faces=None, regions=None, controls=(), features=())
    return Row(record=slim, verdict=verdict)


def _attempt(where: str, call: Callable[[], Any]) -> Any:
    """The call's value, or the exception caught; a bug or a full disk ends the run instead.

    Raises:
        FatalError: If no other record could fare better.
        MemoryError: Whoever has asked for too much; only isolation can tell.
    """
    try:
        return call()
    except MemoryError:
        raise
    except _BUGS as error:
        raise FatalError(f"{where}: {_last_lines(error)}") from error
    except OSError as error:
        if error.errno in _FULL:
            raise FatalError(f"{where}: {error}") from error
        return _Caught(error)
    except Exception as error:  # noqa: BLE001  (the one place where any error of any stage becomes data)
        return _Caught(error)


def _last_lines(error: Exception) -> str:
    """The exception with the innermost place it came from: what people need first."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename.rsplit('/', 2)[-1]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {error}{where}"
