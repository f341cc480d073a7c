"""Which units are done: the output folder's layout, the run's fingerprint, and the refusal to mix runs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from manifests.files import AnyPath, read_files
from manifests.record import StepUse, from_plain, to_plain
from manifests.shard import SchemaVersionError, check_version
from manifests.unit_record import RUN_FILE, SHARD_FOLDER, UNIT_FOLDER, UnitRecord
from pipeline.retrying.attempts import standing

_DAMAGED = (ValueError, KeyError, TypeError, AttributeError)
"""What a JSON file raises that was cut short, edited or is another's."""


class ResumeError(ValueError):
    """The folder holds a run that differs from this one; the message says in what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A named value: one part of the fingerprint, or one package version."""

    name: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What a drop or failure reason of a node means, in a line for people."""

    node: str
    reason: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What a run is, written once as ``run.json`` before the first unit.

    Attributes:
        manifest: The manifest's YAML text.
        fingerprint: Everything that can change a shard's bytes, part by part.
        units: How many units the run has; ``rows`` how many source rows.
        steps: The steps in order, with every parameter spelled out.
        versions: Packages and their versions, for the reader; not compared.
        paper: Whose published statistics the report sets beside the run's.
        packed_from: Of a folder that ``pack`` wrote, the digest of the packed run's fingerprint; ``units`` and ``rows``
            then tell of its shards.
    """

    schema_version: int
    name: str
    manifest: str
    fingerprint: tuple[Setting, ...]
    units: int
    rows: int
    buckets: tuple[float, ...]
    steps: tuple[StepUse, ...]
    reasons: tuple[Reason, ...]
    versions: tuple[Setting, ...]
    started_at: str
    paper: str | None = None
    packed_from: str | None = None

    def to_json(self) -> str:
        """The run as an indented JSON document."""
        return json.dumps(to_plain(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> "RunInfo":
        """The run :meth:`to_json` wrote. Raises ``SchemaVersionError`` if a newer Inlay wrote it."""
        plain = json.loads(text)
        check_version(plain["schema_version"], where)
        info: RunInfo = from_plain(cls, plain)
        return info


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie in an output folder: on a disk, or in an object store (``Layout(open_path(where))``)."""

    root: AnyPath

    @property
    def run(self) -> AnyPath:
        """What the run is."""
        return self.root / RUN_FILE

    @property
    def folders(self) -> tuple[AnyPath, ...]:
        """The folders of shards, unit records and rejects: what the units wrote."""
        return self.root / SHARD_FOLDER, self.root / UNIT_FOLDER, self.root / "rejects"

    @property
    def report(self) -> AnyPath:
        """The report's page."""
        return self.root / "report" / "index.html"

    def tar(self, unit: str) -> AnyPath:
        """A unit's shard."""
        return self.root / SHARD_FOLDER / f"{unit}.tar"

    def index(self, unit: str) -> AnyPath:
        """The index of a unit's shard."""
        return self.root / SHARD_FOLDER / f"{unit}.parquet"

    def rejects(self, unit: str) -> AnyPath:
        """A unit's dropped and failed rows."""
        return self.root / "rejects" / f"{unit}.parquet"

    def unit(self, unit: str) -> AnyPath:
        """A unit's record: the commit."""
        return self.root / UNIT_FOLDER / f"{unit}.json"

    def lease(self, term: int) -> AnyPath:
        """Who writes here, or did: each driver takes the next term (see :mod:`pipeline.lease`)."""
        return self.root / "lease" / f"{term:06d}.json"

    def heartbeat(self, term: int) -> AnyPath:
        """The last sign of life of a term's driver."""
        return self.root / "lease" / f"{term:06d}.beat"

    def isolation(self, unit: str) -> AnyPath:
        """What a unit's worker was at when it died; there only while the unit is done in isolation."""
        return self.root / "isolation" / f"{unit}.json"

    def retry(self, attempt: int) -> AnyPath:
        """Which rows are tried again at an attempt, from the second on, in which units."""
        return self.root / "retries" / f"{attempt:06d}.json"

    def committed(self) -> list[str]:
        """Names of the units that are done, in order."""
        return sorted(numbered(self.root / UNIT_FOLDER), key=int)

    def isolated(self) -> list[str]:
        """Names of the units whose worker died and that are being done record by record."""
        return sorted(numbered(self.isolation("0").parent))

    def unit_records(self) -> Iterator[UnitRecord]:
        """The records of the units that are done, in order; a row that was tried again counts where it was last."""
        paths = [self.unit(name) for name in self.committed()]
        return standing([_parse(path, data) for path, data in zip(paths, read_files(paths), strict=True)])

    def unit_record(self, unit: str) -> UnitRecord:
        """The record of a unit that is done.

        Raises:
            ResumeError: If it is damaged or another unit's.
        """
        return _parse(self.unit(unit), self.unit(unit).read_bytes())

    def _near(self) -> str:
        """Which folder was meant, where one above or below on this disk holds a run."""
        if not isinstance(self.root, Path):
            return ""
        try:
            below = [path for path in self.root.iterdir() if path.is_dir()] if self.root.is_dir() else []
            runs = [str(path) for path in (self.root.parent, *sorted(below)) if Layout(path).run.exists()]
        except OSError:
            return ""
        return f": {' or '.join(runs)}" if runs else ""

    def read_run(self) -> RunInfo:
        """What the run in this folder is.

        Raises:
            ResumeError: If no run was ever started here.
        """
        try:
            return RunInfo.from_json(self.run.read_text(encoding="utf-8"), str(self.run))
        except (FileNotFoundError, NotADirectoryError):
            raise ResumeError(
                f"{self.root} holds no run (there is no {self.run.name}); give the folder that a run or pack wrote"
                f"{self._near()}"
            ) from None
        except SchemaVersionError:
            raise
        except _DAMAGED as error:
            raise ResumeError(f"{self.run}: damaged ({error!r}); restore it, or start a new folder") from None


def numbered(folder: AnyPath) -> Iterator[str]:
    """Stems of a folder's JSON files that are called by a number; not of copies beside them, as some tools leave."""
    return (path.stem for path in folder.glob("[0-9]*.json") if path.stem.isdecimal())


def _parse(path: AnyPath, data: bytes) -> UnitRecord:
    try:
        record = UnitRecord.from_json(data, str(path))
    except SchemaVersionError:
        raise
    except _DAMAGED as error:
        raise ResumeError(f"{path}: damaged ({error!r}); delete it and run again to redo this unit") from None
    if record.name != path.stem:
        raise ResumeError(f"{path}: holds the record of unit {record.name}; delete it and run again")
    return record


def refuse_changes(old: RunInfo, new: RunInfo, where: AnyPath) -> None:
    """Refuse to resume a run that would not continue the same shards.

    Raises:
        ResumeError: Naming each part that changed, with both values.
    """
    before, after = _settings(old), _settings(new)
    changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
    if changed:
        lines = [f"  {name}: {_change(before.get(name), after.get(name))}" for name in changed]
        raise ResumeError(
            f"{where} holds a run that this one would not continue; changed since:\n"
            + "\n".join(lines)
            + "\nUndo the change to resume, or give a new folder with --out."
        )


def _change(before: str | None, after: str | None) -> str:
    """Both values of a setting; of those that hold parameters, the parameters that differ."""
    said, old = _parameters(before)
    says, new = _parameters(after)
    if said != says or old is None or new is None:
        return f"was {before or 'absent'}, is {after or 'absent'}"
    names = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return "; ".join(f"{name} was {json.dumps(old.get(name))}, is {json.dumps(new.get(name))}" for name in names)


def _parameters(setting: str | None) -> tuple[str | None, dict[str, Any] | None]:
    """What stands before a setting's parameters, and these; ``None`` if it has none."""
    head, brace, rest = (setting or "").partition("{")
    try:
        return head, json.loads(brace + rest) if brace else None
    except ValueError:
        return setting, None


def _settings(info: RunInfo) -> Mapping[str, str]:
    return {setting.name: setting.value for setting in info.fingerprint}
