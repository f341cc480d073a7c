"""A job: a plan with its source and its output, and the two ends of a unit's way, read and commit."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from manifests.unit_record import Superseded, UnitRecord
from pipeline.actor import FatalError, Work
from pipeline.commit import CommitPlan, commit
from pipeline.deadline import OverdueError, within
from pipeline.plan import Plan
from pipeline.retrying.attempts import as_rejected, with_rejected
from pipeline.sources.base import Source, SourceError, Unit, read_rows

_HUNG = "Does a mount or a store hang? Run again once it answers; if it just takes that long, raise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a process says of a unit to whoever drives it: the JSON of its record, or why the run must stop."""

    unit: int
    record: str | None = None
    fatal: str | None = None

    def read(self) -> UnitRecord:
        """The unit's record.

        Raises:
            FatalError: If the run must stop.
        """
        if self.record is None:
            raise FatalError(self.fatal)
        return UnitRecord.from_json(self.record, f"unit {self.unit}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an executor is given. Pickled to workers, so it holds no open files and no models.

    Attributes:
        read_deadline_s: Seconds that reading a unit may take, ``commit_deadline_s`` that writing it may.
        superseded: By unit to be done anew, rows of it that a later one accounts for; they are not tried again.
    """

    source: Source
    plan: Plan
    commit: CommitPlan
    read_deadline_s: float = 1800
    commit_deadline_s: float = 3600
    superseded: Mapping[int, tuple[Superseded, ...]] = field(default_factory=dict)

    def read(self, unit: Unit) -> Work:
        """The unit's rows as the source gives them; a source that is unreadable, or hangs, is fatal."""
        what = f"unit {unit.name} of {self._source_of(unit)} did not come"
        try:
            rows = tuple(within(self.read_deadline_s, what, lambda: read_rows(self.source, unit)))
        except OverdueError as error:
            return Work(unit=unit, rows=(), fatal=f"cannot read the source: {error}. {_HUNG} source.read_deadline_s")
        except (OSError, ValueError, TypeError, LookupError, ArithmeticError) as error:
            why = error if isinstance(error, SourceError | OSError) else repr(error)
            return Work(unit=unit, rows=(), fatal=f"cannot read the source: {why}")
        if len(rows) != unit.rows:
            return Work(unit=unit, rows=(), fatal=f"the source gave {len(rows)} rows for {unit}")
        return Work(unit=unit, rows=tuple(as_rejected(rows, self.superseded.get(unit.number, ()))))

    def finish(self, work: Work) -> UnitRecord:
        """Commit the unit.

        Raises:
            FatalError: If the work is fatal, or its records cannot be written.
        """
        if work.fatal is not None:
            raise FatalError(work.fatal)
        counted = with_rejected(work.steps, self.superseded.get(work.unit.number, ()))
        write = partial(commit, self.commit, self._source_of(work.unit), replace(work, steps=counted))
        try:
            return within(self.commit_deadline_s, "it was not written", write)
        except OverdueError as error:
            raise FatalError(
                f"cannot write unit {work.unit.name} to {self.commit.root}: {error}. {_HUNG} sink.commit_deadline_s"
            ) from error
        except (OSError, ValueError) as error:
            raise FatalError(f"cannot write unit {work.unit.name} to {self.commit.root}: {error}") from error

    def done(self, work: Work) -> Done:
        """:meth:`finish`, told to another process."""
        try:
            return Done(unit=work.unit.number, record=self.finish(work).to_json())
        except FatalError as error:
            return Done(unit=work.unit.number, fatal=str(error))

    def _source_of(self, unit: Unit) -> str:
        return self.source.parts[unit.part].name if unit.retry is None else f"retry {unit.retry.attempt}"
