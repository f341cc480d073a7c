"""The order: which sample stands at which place of which batch, as a pure function of seed, epoch and position.

Samples are numbered per source and bucket, in the order of the shards. One *pass* over a source's bucket goes through
its blocks of neighbouring samples in a permuted order. Passes of all sources are merged, cut into windows, and shuffled
inside each window; that stream, cut into batches, is the bucket. An epoch's batches of all buckets are merged again.
Samples that do not fill a batch are carried over: they are the first of their bucket in the next epoch.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np

from training.stream.interleave import merged
from training.stream.keyed import Numbers, hash64, permute, scatter

_SCHEDULE_WINDOW = 256
_OWN_SPARES = 25
"""Attempts to find a spare in a batch's own bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderParams:
    """What the order depends on besides the data.

    Attributes:
        seed: Another seed is another order.
        batch_size: Samples in a global batch, over all ranks.
        block: Neighbouring samples that stay together, so that they are read together.
        window: Samples among which places are shuffled; over ``window / block`` blocks.
    """

    seed: int
    batch_size: int
    block: int = 8
    window: int = 65536

    def __post_init__(self) -> None:
        for name in ("batch_size", "block", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def lanes(self) -> int:
        """Parts of a batch that are filled from blocks of their own, so that a rank reads whole blocks."""
        return max(lanes for lanes in range(1, 65) if self.batch_size % lanes == 0)


@dataclass(frozen=True, slots=True)
class Places:
    """Samples at consecutive places of a bucket's stream, as arrays of one length.

    ``source`` and ``number`` say which sample (its number among the source's samples of the bucket); ``turn`` counts
    the passes over that source, from 0: what a sample's random draws depend on.
    """

    source: Numbers
    number: Numbers
    turn: Numbers

    def __getitem__(self, part: slice) -> "Places":
        return Places(self.source[part], self.number[part], self.turn[part])


def shuffle_blocks(key: int, places: Numbers, size: int, block: int) -> Numbers:
    """Which of ``size`` samples stands at each place when their blocks are permuted and stay whole inside.

    The last block may be short; its place among the others is as random as theirs.
    """
    full = (size - 1) // block
    short = size - full * block
    at = hash64(key, "short") % (full + 1) * block
    before, after = places < at, places >= at + short
    moved = places - np.where(after, short, 0)
    result = full * block + places - at
    whole = before | after
    blocks, offsets = np.divmod(moved[whole], block)
    result[whole] = permute(key, blocks, full) * block + offsets
    return result


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Epochs in a row over the same samples.

    Attributes:
        params: The order's.
        epoch: The first epoch.
        step: The first global step of that epoch.
        counts: Samples by bucket and source.
        repeats: How often an epoch goes through each source; broken numbers are kept exact over the epochs.
        turns: Passes over each source before this segment.
        carry: By bucket, how many samples at the end of the segment before are still to come.
        before: That segment.
    """

    params: OrderParams
    epoch: int
    step: int
    counts: tuple[tuple[int, ...], ...]
    repeats: tuple[Fraction, ...]
    turns: tuple[int, ...]
    carry: tuple[int, ...]
    before: "Segment | None" = None

    @classmethod
    def first(
        cls, params: OrderParams, counts: tuple[tuple[int, ...], ...], repeats: tuple[Fraction, ...]
    ) -> "Segment":
        """The segment that an order begins with."""
        zeros = (0,) * len(repeats), (0,) * len(counts)
        return cls(params=params, epoch=0, step=0, counts=counts, repeats=repeats, turns=zeros[0], carry=zeros[1])

    def drawn(self, bucket: int, source: int, epochs: int) -> int:
        """Samples of a source that a bucket's first epochs draw."""
        return int(epochs * self.repeats[source] * self.counts[bucket][source])

    def length(self, bucket: int, epochs: int) -> int:
        """Samples in a bucket's first epochs, those carried over from before left out."""
        return sum(self.drawn(bucket, source, epochs) for source in range(len(self.repeats)))

    def batches(self, bucket: int, epochs: int) -> int:
        """Batches that a bucket's first epochs fill."""
        return (self.carry[bucket] + self.length(bucket, epochs)) // self.params.batch_size

    def steps(self, epochs: int) -> int:
        """Batches that the first epochs fill."""
        return sum(self.batches(bucket, epochs) for bucket in range(len(self.counts)))

    def left(self, bucket: int, epochs: int) -> int:
        """Samples of a bucket that its first epochs leave over."""
        return (self.carry[bucket] + self.length(bucket, epochs)) % self.params.batch_size

    def epochs_before(self, step: int) -> int:
        """Whole epochs of this segment before a step of it, counted from its first."""
        if not any(map(any, self.counts)):
            raise ValueError("there are no samples to draw from")
        return _last(lambda epochs: self.steps(epochs) <= step)

    def next(self, epochs: int, counts: tuple[tuple[int, ...], ...], repeats: tuple[Fraction, ...]) -> "Segment":
        """The segment that goes on over other samples, after this one's first epochs."""
        return Segment(
            params=self.params,
            epoch=self.epoch + epochs,
            step=self.step + self.steps(epochs),
            counts=counts,
            repeats=repeats,
            turns=tuple(turn + -int(-epochs * r // 1) for turn, r in zip(self.turns, self.repeats, strict=True)),
            carry=tuple(self.left(bucket, epochs) for bucket in range(len(self.counts))),
            before=self,
        )

    def batch_at(self, step: int) -> "BatchPlan":
        """The batch of a step, counted from the segment's first."""
        epochs = self.epochs_before(step)
        bucket, number = self.schedule.at(epochs, step - self.steps(epochs))
        start = number * self.params.batch_size - self.carry[bucket]
        return BatchPlan(self, self.epoch + epochs, bucket, start)

    @cached_property
    def schedule(self) -> "Schedule":
        """Which bucket each step takes."""
        return Schedule(self)

    def places(self, bucket: int, start: int, stop: int) -> list[tuple["Segment", Places]]:
        """The samples at places ``[start, stop)`` of a bucket, with the segment whose samples they are.

        Places below 0 are those carried over.
        """
        parts: list[tuple[Segment, Places]] = []
        if start < 0:
            assert self.before is not None
            end = self.before.length(bucket, self.epoch - self.before.epoch)
            parts += self.before.places(bucket, end + start, end + min(stop, 0))
        start = max(start, 0)
        while start < stop:
            window, offset, length = self._window_of(bucket, start)
            taken = min(stop - start, length - offset)
            parts.append((self, self.window(bucket, *window)[offset : offset + taken]))
            start += taken
        return parts

    def _window_of(self, bucket: int, place: int) -> tuple[tuple[int, int], int, int]:
        """The ``(epoch, number)`` of a place's window, where in it the place is, and the window's length."""
        epochs = _last(lambda epochs: self.length(bucket, epochs) <= place)
        begin = self.length(bucket, epochs)
        number, offset = divmod(place - begin, self.params.window)
        rest = self.length(bucket, epochs + 1) - begin - number * self.params.window
        return (epochs, number), offset, min(rest, self.params.window)

    @cached_property
    def window(self) -> Callable[[int, int, int], Places]:
        """The samples of a window, by bucket, epoch of the segment, and the window's number in it."""
        return lru_cache(maxsize=2 * len(self.counts))(self._window)

    def _window(self, bucket: int, epochs: int, number: int) -> Places:
        sources = range(len(self.repeats))
        begin = [self.drawn(bucket, source, epochs) for source in sources]
        sizes = [self.drawn(bucket, source, epochs + 1) - begin[source] for source in sources]
        first = number * self.params.window
        last = min(first + self.params.window, sum(sizes))
        source, index = merged(sizes, first, last)
        drawn = self._samples(bucket, source, index + np.asarray(begin)[source])
        key = hash64(self.params.seed, "window", self.epoch + epochs, bucket, number)
        return self._spread(drawn, key, self.carry[bucket] + sum(begin) + first)

    def _samples(self, bucket: int, source: Numbers, drawn: Numbers) -> Places:
        """Which samples the ``drawn``-th draws from their sources are."""
        sizes = np.asarray(self.counts[bucket])[source]
        turn, place = np.divmod(drawn, sizes)
        number = np.empty_like(place)
        for which, passed in {(int(s), int(t)) for s, t in zip(*np.unique([source, turn], axis=1), strict=True)}:
            part = (source == which) & (turn == passed)
            key = hash64(self.params.seed, "blocks", which, bucket, self.turns[which] + passed)
            number[part] = shuffle_blocks(key, place[part], self.counts[bucket][which], self.params.block)
        return Places(source, number, turn + np.asarray(self.turns)[source])

    def _spread(self, drawn: Places, key: int, first: int) -> Places:
        """A window's samples at their places: lane by lane, shuffled inside each."""
        places = np.arange(len(drawn.number))
        slot = (first + places) % self.params.batch_size
        order = np.lexsort((scatter(key, places), slot * self.params.lanes // self.params.batch_size))
        taken = np.empty_like(order)
        taken[order] = places
        return Places(drawn.source[taken], drawn.number[taken], drawn.turn[taken])

    def spare(self, epoch: int, bucket: int, place: int, attempt: int) -> tuple[int, tuple[int, int, int]]:
        """The sample that stands in at a place, drawn by key: its bucket, and its ``(source, number, turn)``.

        Any of the same bucket; after many attempts any at all, for a bucket may have none that is whole.
        """
        buckets = [bucket] if attempt < _OWN_SPARES else range(len(self.counts))
        pools = [(which, source, count) for which in buckets for source, count in enumerate(self.counts[which])]
        number = hash64(self.params.seed, "spare", epoch, bucket, place, attempt) % sum(count for *_, count in pools)
        for which, source, count in pools:
            if number < count:
                return which, (source, number, epoch)
            number -= count
        raise AssertionError("a number below a sum lies in one of its parts")

    def is_past_carry(self, step: int) -> bool:
        """Whether no batch from a step on (of this segment) draws from the segment before."""
        epochs = self.epochs_before(step)
        return all(not carried or self.batches(bucket, epochs) for bucket, carried in enumerate(self.carry))


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A global batch: its epoch, its bucket, and its first place in the bucket's stream of a segment."""

    segment: Segment
    epoch: int
    bucket: int
    start: int


class Schedule:
    """Which bucket each step of an epoch takes: all of them evenly mixed, shuffled over short stretches."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.stretch = lru_cache(maxsize=4)(self._stretch)

    def at(self, epochs: int, step: int) -> tuple[int, int]:
        """The bucket of a step of an epoch, and the number of the batch among the bucket's in the segment."""
        number, offset = divmod(step, _SCHEDULE_WINDOW)
        buckets, batches = self.stretch(epochs, number)
        bucket = int(buckets[offset])
        return bucket, self.segment.batches(bucket, epochs) + int(batches[offset])

    def _stretch(self, epochs: int, number: int) -> tuple[Numbers, Numbers]:
        buckets = range(len(self.segment.counts))
        sizes = [self.segment.batches(b, epochs + 1) - self.segment.batches(b, epochs) for b in buckets]
        first = number * _SCHEDULE_WINDOW
        which, index = merged(sizes, first, min(first + _SCHEDULE_WINDOW, sum(sizes)))
        key = hash64(self.segment.params.seed, "schedule", self.segment.epoch + epochs, number)
        order = np.argsort(scatter(key, np.arange(len(which))), kind="stable")
        shuffled = which[order]
        return shuffled, _in_turn(shuffled, index, which)


def _in_turn(shuffled: Numbers, index: Numbers, which: Numbers) -> Numbers:
    """The batches' numbers after shuffling: each bucket's still in rising order, so that it is read front to back."""
    result = np.empty_like(index)
    for bucket in np.unique(which):
        result[shuffled == bucket] = index[which == bucket]
    return result


def _last(holds: Callable[[int], bool]) -> int:
    """The largest number >= 0 for which a condition holds that fails from some number on."""
    high = 1
    while holds(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
