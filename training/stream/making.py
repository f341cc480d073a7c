"""Batches made of their samples: what is asked for, what comes of it, and the threads of this process that do it."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from msgspec import Struct

from training.stream.collate import Allocate, Batch, Place, allocate, collate
from training.stream.fetch import Fetcher, ReadAhead, open_fetcher
from training.stream.fill import Filled, Filler, Read, Spare, Wanted
from training.stream.geometry import Pixels
from training.stream.options import StreamOptions
from training.stream.recipe import StreamRecipe
from training.stream.state import Quarantined
from training.stream.storage import Storage
from training.stream.timeline import Located


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a rank is to make of a global batch.

    Attributes:
        place: Of the batch.
        image_size: Width and height of the array for its targets.
        slots: In the global batch.
        samples: That belong there.
    """

    place: Place
    image_size: tuple[int, int]
    slots: range
    samples: tuple[Located, ...]

    @property
    def size(self) -> int:
        """Bytes of its samples and of its targets."""
        width, height = self.image_size
        return len(self.slots) * width * height * 3 + sum(sample.entry.size for sample in self.samples)

    @classmethod
    def of(cls, place: Place, recipe: StreamRecipe, bucket: int, slots: range, samples: Sequence[Located]) -> "Part":
        """The part of a batch in a bucket."""
        return cls(place=place, image_size=recipe.image_size(bucket), slots=slots, samples=tuple(samples))


class Made(Struct, frozen=True, gc=False):
    """A batch, and the samples that were found damaged on the way."""

    batch: Batch
    damaged: tuple[Quarantined, ...]


class Maker(Protocol):
    """Makes batches, several at one time. What goes wrong is the future's exception."""

    def make(self, part: Part, spare: Spare) -> Future[Made]:
        """Begin a batch."""

    def cpu_s(self) -> float:
        """CPU seconds that other processes have spent on it so far."""

    def close(self) -> None:
        """Stop. Batches made stay good."""


def open_fetchers(storages: Sequence[Storage], options: StreamOptions) -> list[Fetcher]:
    """A fetcher for each data set."""
    ahead = ReadAhead(budget_bytes=options.read_ahead_bytes, connections=options.connections)
    return [open_fetcher(storage, ahead) for storage in storages]


class ThreadMaker(Maker):
    """Makes batches in threads of this process, each batch in all of them.

    Args:
        filler: Fills their places.
        fetchers: Give the samples' bytes, by data set.
        threads: How many.
        allocate: Gives the batches' memory.
    """

    def __init__(
        self, filler: Filler, fetchers: Sequence[Fetcher], threads: int, allocate: Allocate = allocate
    ) -> None:
        self.filler, self.fetchers, self.threads, self.allocate = filler, fetchers, threads, allocate
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="inlay-stream")
        self.collator = ThreadPoolExecutor(1, thread_name_prefix="inlay-collate")

    def make(self, part: Part, spare: Spare) -> Future[Made]:
        """See :meth:`Maker.make`; waits while more bytes are under way than may be."""
        width, height = part.image_size
        images = self.allocate((len(part.slots), height, width, 3), np.uint8)
        reads = self._reads(part.samples)
        wanted = [Wanted(*each) for each in zip(part.slots, part.samples, reads, strict=True)]
        chunk = -(-len(wanted) // self.threads)
        chunks = [
            self.pool.submit(self._fill, part, spare, wanted[start : start + chunk], images[start:])
            for start in range(0, len(wanted), chunk)
        ]
        return self.collator.submit(self._collate, part.place, chunks, images)

    def cpu_s(self) -> float:
        """See :meth:`Maker.cpu_s`."""
        return 0.0

    def close(self) -> None:
        """See :meth:`Maker.close`."""
        for fetcher in self.fetchers:
            fetcher.close()
        for threads in (self.pool, self.collator):
            threads.shutdown(wait=True, cancel_futures=True)
        for storage in self.filler.storages:
            storage.close()

    def _fill(self, part: Part, spare: Spare, wanted: Sequence[Wanted], images: Pixels) -> list[Filled]:
        return list(self.filler.fill(part.place.size, spare, wanted, list(images)))

    def _collate(self, place: Place, chunks: Sequence[Future[list[Filled]]], images: Pixels) -> Made:
        for chunk in chunks:  # if one fails too: whoever asked for the batch gives no spares for it afterwards
            chunk.exception()
        filled = [each for chunk in chunks for each in chunk.result()]
        batch = collate([each.prepared for each in filled], place, images, self.allocate)
        return Made(batch, tuple(sample for each in filled for sample in each.damaged))

    def _reads(self, samples: Sequence[Located]) -> list[Read]:
        """The samples' bytes, asked for; each data set's together."""
        reads: dict[int, Read] = {}
        for source, fetcher in enumerate(self.fetchers):
            numbers = [number for number, sample in enumerate(samples) if sample.source == source]
            if numbers:
                asked = fetcher.submit([samples[number].entry.range for number in numbers])
                reads.update(zip(numbers, asked, strict=True))
        return [reads[number] for number in range(len(samples))]
