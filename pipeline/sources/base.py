"""What a source is: named parts with a row count each, cut into units, and a reader of one unit."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from manifests.record import Row
from manifests.unit_record import Superseded, unit_name


class SourceError(ValueError):
    """A source that cannot be read; the message names the file and says what would be right."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file (or list) of rows.

    Attributes:
        name: As people know it; stands in every record's ``source``.
        rows: How many rows it has, kept or not.
        digest: Hex digest of what decides its rows' content, cheap to compute (footer, listing); part of the run's
            fingerprint and of every key.
    """

    name: str
    rows: int
    digest: str

    def key(self, row: int) -> str:
        """The key of a row: the same whenever, wherever and in whichever run it is read."""
        return f"{self.digest[:12]}_{row:09d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Again:
    """Rows of one part to be tried again: those of ``[start, stop)`` that have these keys."""

    part: int
    start: int
    stop: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """What a unit tries again: rows of former units, and at which attempt, from 2 on."""

    attempt: int
    rows: tuple[Again, ...]
    supersedes: tuple[Superseded, ...]


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows ``[start, stop)`` of one part: the grain of work, commit and resume.

    A unit of rows that are tried again may have them of several parts; it counts them from 0 to ``stop``.
    """

    number: int
    part: int
    start: int
    stop: int
    retry: Retry | None = None

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return self.stop - self.start

    @property
    def name(self) -> str:
        """Stem of every file the unit writes."""
        return unit_name(self.number)


def cut_units(rows: Sequence[int], unit_rows: int, limit: int | None = None) -> list[Unit]:
    """Cut parts of so many ``rows`` each into units of at most ``unit_rows``, none across two parts.

    Args:
        rows: Rows of each part.
        unit_rows: Largest unit.
        limit: Use only the first so many rows of all.
    """
    units: list[Unit] = []
    left = sum(rows) if limit is None else limit
    for part, count in enumerate(rows):
        for start in range(0, min(count, left), unit_rows):
            units.append(Unit(len(units), part, start, min(start + unit_rows, count, left)))
        left -= min(count, left)
    return units


class Source(ABC):
    """Rows of metadata, and pictures where the source holds them.

    Sources are pickled to workers: opening is cheap, and file handles are opened in ``read``.

    Attributes:
        gives: The optional ``Record`` fields it may fill; fields it never fills are absent.
        reasons: Every reason its verdicts give, with a line for people.
        parts: Its parts, in a fixed order.
        settings: What else decides its rows, by name; part of the run's fingerprint.
    """

    gives: frozenset[str]
    reasons: Mapping[str, str] = {}
    parts: tuple[Part, ...]
    settings: Mapping[str, str] = {}

    @abstractmethod
    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows, in order, exactly ``unit.rows`` of them.

        A row that cannot be had (no URL, missing file) comes with a verdict of node ``source``; it is never left out.

        Raises:
            SourceError: If the part itself is unreadable or has changed.
        """

    def urls(self, unit: Unit) -> list[tuple[str, str | None]]:
        """Key and URL of the unit's rows; no URL of rows that cannot be had.

        Raises:
            SourceError: As :meth:`read`.
        """
        return [(row.record.key, None if row.verdict else row.record.url) for row in self.read(unit)]

    @property
    def fingerprint(self) -> str:
        """Digest over all parts."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(f"{part.name}\0{part.rows}\0{part.digest}\n".encode())
        return digest.hexdigest()


def read_rows(source: Source, unit: Unit) -> list[Row]:
    """The rows of a unit, also of one that tries rows again; in order.

    Raises:
        SourceError: As :meth:`Source.read`.
    """
    if unit.retry is None:
        return source.read(unit)
    return [row for again in unit.retry.rows for row in _read_again(source, unit.number, again)]


def _read_again(source: Source, number: int, again: Again) -> list[Row]:
    wanted = frozenset(again.keys)
    rows = source.read(Unit(number, again.part, again.start, again.stop))
    return [row for row in rows if row.record.key in wanted]
