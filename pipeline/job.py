"""A job: a plan, its source and the units left to do; and the two ends of a unit's way, read and commit."""

from dataclasses import dataclass

from manifests.shard import UnitRecord
from pipeline.actor import FatalError, Work
from pipeline.commit import CommitPlan, commit
from pipeline.plan import Plan
from pipeline.sources.base import Source, SourceError, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What an executor is given. Pickled to workers, so it holds no open files and no models."""

    source: Source
    plan: Plan
    commit: CommitPlan
    units: tuple[Unit, ...]

    def read(self, unit: Unit) -> Work:
        """The unit's rows as the source gives them; an unreadable source is fatal."""
        try:
            rows = tuple(self.source.read(unit))
        except (SourceError, OSError) as error:
            return Work(unit=unit.number, rows=(), fatal=f"cannot read the source: {error}")
        if len(rows) != unit.rows:
            return Work(unit=unit.number, rows=(), fatal=f"the source gave {len(rows)} rows for {unit}")
        return Work(unit=unit.number, rows=rows)

    def finish(self, unit: Unit, work: Work) -> UnitRecord:
        """Commit the unit.

        Raises:
            FatalError: If the work is fatal, or the output cannot be written.
        """
        if work.fatal is not None:
            raise FatalError(work.fatal)
        try:
            return commit(self.commit, unit, self.source.parts[unit.part].name, work)
        except OSError as error:
            raise FatalError(f"cannot write unit {unit.name} to {self.commit.root}: {error}") from error
