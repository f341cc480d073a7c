"""What died in a unit's isolation, in a file: whoever takes it up after its own death does not begin at nothing.

Ray shoots whom it likes when memory is short, the driver of an isolation too, together with the worker that took it. So
what is in a worker is written down before it goes in: what was inside when everything died counts as dead of it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from manifests.files import AnyPath, write_atomically
from manifests.record import canonical_json, from_plain, to_plain
from pipeline.actor import WORKER_CRASH, FatalError

_STARTS = 4
"""An isolation that died so many times in a row with nothing in a worker will not end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Death:
    """A worker's end, and what was in it. ``reason`` is what a record would be failed for."""

    node: str
    reason: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """The file.

    Attributes:
        job: The driver's life that it belongs to; in another, memory and machines may be others.
        starts: Times that the isolation began since something last went into a worker.
        deaths: So far.
        inside: What is in a worker; what would be told of it if nobody came back.
    """

    job: str
    starts: int = 0
    deaths: tuple[Death, ...] = ()
    inside: Death | None = None


class Journal:
    """The deaths of a unit's isolation, for its driver, for `status` and whoever wants to know."""

    def __init__(self, path: AnyPath, job: str) -> None:
        """Begin, or go on where an isolation of the same job has died.

        Raises:
            FatalError: If it died again and again with nothing in a worker.
        """
        self._path = path
        before = _read(path, job)
        deaths = (*before.deaths, before.inside) if before.inside else before.deaths
        self._notes = Notes(job=job, starts=before.starts + 1, deaths=deaths)
        if self._notes.starts > _STARTS:
            raise FatalError(
                f"{path}: the isolation of this unit died {_STARTS} times in a row with no record in a worker. Is the "
                "machine out of memory? Give it more, or make the source's units smaller"
            )
        self._write()

    def deaths_of(self, node: str, keys: Sequence[str]) -> tuple[Death, ...]:
        """Those with just these records inside."""
        return tuple(death for death in self._notes.deaths if (death.node, death.keys) == (node, tuple(keys)))

    def enter(self, node: str, keys: Sequence[str]) -> None:
        """Records are about to go into a worker."""
        inside = Death(node=node, reason=WORKER_CRASH, keys=tuple(keys))
        self._notes = replace(self._notes, starts=0, inside=inside)
        self._write()

    def leave(self) -> None:
        """They came out."""
        self._notes = replace(self._notes, inside=None)
        self._write()

    def died(self, reason: str) -> None:
        """The worker died with what is inside."""
        assert self._notes.inside, "nothing is in a worker"
        death = replace(self._notes.inside, reason=reason)
        self._notes = replace(self._notes, deaths=(*self._notes.deaths, death), inside=None)
        self._write()

    def close(self) -> None:
        """The unit is through."""
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        write_atomically(self._path, canonical_json(to_plain(self._notes)).encode())


def _read(path: AnyPath, job: str) -> Notes:
    """What the same job noted; else nothing, nor of what is not legible."""
    try:
        notes: Notes = from_plain(Notes, json.loads(path.read_bytes()))
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return Notes(job=job)
    return notes if notes and notes.job == job else Notes(job=job)
