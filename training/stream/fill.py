"""Places of a batch filled: bytes read, checked, decoded; a spare where a sample is damaged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from training.stream.catalog import Entry
from training.stream.coalesce import Range
from training.stream.diskcache import CachedStorage
from training.stream.example import SampleError, parse_example
from training.stream.features import LACKING
from training.stream.keyed import Draws
from training.stream.members import cut_members
from training.stream.prepare import Draft, Prepared, draft, finish
from training.stream.recipe import StreamRecipe
from training.stream.snapshot import DatasetError
from training.stream.state import Quarantined
from training.stream.storage import ShortReadError, Storage
from training.stream.timeline import Located

Spare: TypeAlias = Callable[[int, int], Located]
"""The sample that stands in at a slot, by slot and attempt."""

_ATTEMPTS = 50
_TOGETHER = 16
"""Samples whose bytes are held at one time by a thread."""


class Read(Protocol):
    """A sample's bytes, on their way; one of the two is called, once."""

    def take(self) -> bytes:
        """The bytes, waited for."""
        ...

    def drop(self) -> None:
        """Do without them."""
        ...


@dataclass(frozen=True, slots=True)
class ReadNow:
    """Reads when asked."""

    storage: Storage
    range: Range

    def take(self) -> bytes:
        """The bytes."""
        return self.storage.read_range(*self.range)

    def drop(self) -> None:
        """Nothing was begun."""


class Wanted(Struct, frozen=True, gc=False):
    """A place to be filled: its slot in the global batch, the sample that belongs there, and that one's bytes."""

    slot: int
    place: Located
    read: Read


class Filled(Struct, frozen=True, gc=False):
    """A place of a batch: the sample that stands there at last, and those that were damaged."""

    prepared: Prepared
    damaged: tuple[Quarantined, ...] = ()


@dataclass(slots=True)
class Filler:
    """Fills places with samples. Safe in several threads.

    Attributes:
        quarantine: Samples known to be damaged, by place; they are not read again.
    """

    storages: Sequence[Storage]
    recipe: StreamRecipe
    seed: int
    verify: bool
    quarantine: Mapping[tuple[int, str, int], Quarantined] = field(default_factory=dict)

    def fill(
        self,
        size: tuple[int, int],
        spare: Spare,
        wanted: Sequence[Wanted],
        out: Sequence[npt.NDArray[np.uint8]],
    ) -> Iterator[Filled]:
        """The samples of some places, or their spares', in order, their targets in ``out``.

        Some are drafted together before their pixels are decoded: a decoder leaves nothing of Python in the
        processor's caches.

        Args:
            size: Width and height of the batch's bucket.
            spare: Gives the sample that stands in, by slot and attempt.
            wanted: What belongs there.
            out: An array a place, at the bucket's size.

        Raises:
            DatasetError: If one spare after another is damaged too.
            OSError: If bytes can't be read; that says nothing about the sample.
        """
        for start in range(0, len(wanted), _TOGETHER):
            some = wanted[start : start + _TOGETHER]
            drafts = [self._draft(size, each.place, each.read) for each in some]
            for each, drafted, image in zip(some, drafts, out[start:], strict=False):
                yield self._finish(size, spare, each, drafted, image)

    def _finish(
        self,
        size: tuple[int, int],
        spare: Spare,
        wanted: Wanted,
        drafted: Draft | SampleError,
        out: npt.NDArray[np.uint8],
    ) -> Filled:
        damaged: dict[tuple[int, str, int], Quarantined] = {}
        place = wanted.place
        for attempt in range(_ATTEMPTS):
            prepared = _finished(drafted, out)
            if isinstance(prepared, Prepared):
                return Filled(prepared, tuple(damaged.values()))
            error = _quarantined(place, prepared)
            damaged[error.place] = error
            place = spare(wanted.slot, attempt)
            drafted = self._draft(size, place, ReadNow(self.storages[place.source], place.entry.range))
        if LACKING.issuperset(error.reason for error in damaged.values()):
            raise DatasetError(f"{_ATTEMPTS} samples one after another are not what the recipe wants: {error.message}")
        raise DatasetError(
            f"{_ATTEMPTS} samples one after another are damaged, the last: {error.message}; "
            "python -m training stream DIR --verify shows what is wrong with the data set"
        )

    def _draft(self, size: tuple[int, int], place: Located, read: Read) -> Draft | SampleError:
        entry = place.entry
        known = self.quarantine.get((place.source, entry.path, entry.offset))
        if known:
            read.drop()
            return SampleError(known.reason, known.message)
        try:
            members = self._members(place, read)
            example = parse_example(entry.key, members, entry.width, entry.height)
            return draft(example, self.recipe, size, Draws(self.seed, place.turn, entry.key))
        except SampleError as error:
            return error

    def _members(self, place: Located, read: Read) -> dict[str, bytes]:
        """A sample's members, checked; read once more from their source if what the local disk kept is damaged."""
        entry, storage = place.entry, self.storages[place.source]
        try:
            return cut_members(entry, taken(entry, read), self.verify)
        except SampleError as error:
            if error.reason != "crc_mismatch" or not isinstance(storage, CachedStorage):
                raise
            storage.drop(*entry.range)
            return cut_members(entry, taken(entry, ReadNow(storage.source, entry.range)), self.verify)


def _finished(drafted: Draft | SampleError, out: npt.NDArray[np.uint8]) -> Prepared | SampleError:
    try:
        return drafted if isinstance(drafted, SampleError) else finish(drafted, out)
    except SampleError as error:
        return error


def _quarantined(place: Located, error: SampleError) -> Quarantined:
    entry = place.entry
    return Quarantined(
        source=place.source,
        path=entry.path,
        offset=entry.offset,
        key=entry.key,
        reason=error.reason,
        message=str(error),
    )


def taken(entry: Entry, read: Read) -> bytes:
    """A sample's bytes.

    Raises:
        SampleError: ``truncated``: its tar ends before it does.
    """
    try:
        return read.take()
    except ShortReadError as error:
        raise SampleError("truncated", f"{entry.path}: {entry.key}: {error}") from None
