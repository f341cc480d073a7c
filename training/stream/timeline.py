"""The timeline: which samples each epoch draws from, settled a little before the epoch begins."""

import time
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

from msgspec import Struct

from training.stream.buckets import Buckets
from training.stream.catalog import Entry
from training.stream.names import read_names, write_names
from training.stream.order import BatchPlan, OrderParams, Segment
from training.stream.snapshot import DatasetError, Snapshot
from training.stream.source import Dataset, Source, repeats_of
from training.stream.state import Era
from training.stream.world import World

_LAG_S, _LOOK_AGAIN_S = 90.0, 1.0
"""How long other machines may see a unit after the first rank does: NFS keeps listings for 60 s, see nfs(5)."""
_AHEAD = 64
"""Steps before an epoch's end at which the next one's data is settled, so that reading ahead needn't wait for it."""


class Located(Struct, frozen=True, gc=False):
    """A sample that stands somewhere in a batch, and where its bytes are.

    ``source`` is the data set's number; ``turn`` the pass over it that this is: its random draws' epoch.
    """

    source: int
    entry: Entry
    turn: int


class Timeline:
    """Segments of the order, with the snapshots that their samples come from.

    Args:
        datasets: What is drawn from, and how much.
        sources: The same, opened.
        buckets: By which samples are numbered.
        params: The order's.
        world: Which agrees on what there is.
    """

    def __init__(
        self,
        datasets: Sequence[Dataset],
        sources: Sequence[Source],
        buckets: Buckets,
        params: OrderParams,
        world: World,
    ) -> None:
        self.datasets, self.sources, self.buckets, self.params, self.world = datasets, sources, buckets, params, world
        self.segments: list[Segment] = []
        self.snapshots: dict[int, tuple[Snapshot, ...]] = {}  # by the segment's first epoch
        self.follow = True
        self.epochs = 0  # of the last segment, whose data is settled

    @property
    def settled(self) -> int:
        """Steps below this one may be planned: which samples their epochs draw from is settled."""
        return self._start_of(self.epochs)

    def begin(self) -> None:
        """Start at the first epoch, over what is there."""
        snapshots = self._look()
        self._append(Segment.first(self.params, _by_bucket(snapshots), self._repeats(snapshots)), snapshots)

    def restore(self, eras: Sequence[Era], step: int) -> None:
        """Go on at a step of a state.

        Raises:
            DatasetError: If the data is not what it was.
        """
        before = None
        for era in eras:
            pairs = zip(self.sources, era.sources, strict=True)
            snapshots = tuple(source.restore(stated, self.buckets) for source, stated in pairs)
            before = era.segment(self.params, _by_bucket(snapshots), before)
            self._append(before, snapshots)
        last = self.segments[-1]
        self.epochs = max(eras[-1].epochs, last.epochs_before(max(step - last.step, 0)) + 1)

    def eras(self, step: int) -> tuple[Era, ...]:
        """What a state at a step must say of the segments."""
        needed = self.segments[self._first_needed(step) :]
        ends = [*(after.epoch - segment.epoch for segment, after in pairwise(needed)), self.epochs]
        sources = [[snapshot.fingerprint() for snapshot in self.snapshots[segment.epoch]] for segment in needed]
        return tuple(map(Era.of, needed, ends, sources))

    def settle(self, step: int) -> None:
        """Settle what comes after the settled epochs if a step is near their end. Every rank does so at the same step.

        Raises:
            DatasetError: If units were changed or taken away since.
        """
        while step >= max(self._start_of(self.epochs - 1), self.settled - _AHEAD):
            self._next_epoch()

    def plan(self, step: int) -> BatchPlan:
        """The batch of a global step, whose data must be settled."""
        segment = next(segment for segment in reversed(self.segments) if segment.step <= step)
        return segment.batch_at(step - segment.step)

    def places(self, plan: BatchPlan, slots: range) -> list[Located]:
        """The samples at some places of a batch."""
        parts = plan.segment.places(plan.bucket, plan.start + slots.start, plan.start + slots.stop)
        return [
            self._place(segment, plan.bucket, sample)
            for segment, places in parts
            for sample in zip(places.source.tolist(), places.number.tolist(), places.turn.tolist(), strict=True)
        ]

    def spare(self, plan: BatchPlan, slot: int, attempt: int) -> Located:
        """The sample that stands in at a place; another one by each attempt."""
        bucket, sample = plan.segment.spare(plan.epoch, plan.bucket, plan.start + slot, attempt)
        return self._place(plan.segment, bucket, sample)

    def _place(self, segment: Segment, bucket: int, sample: tuple[int, int, int]) -> Located:
        source, number, turn = sample
        return Located(source, self.snapshots[segment.epoch][source].entry(bucket, number), turn)

    def _start_of(self, epochs: int) -> int:
        segment = self.segments[-1]
        return segment.step + segment.steps(epochs)

    def _next_epoch(self) -> None:
        """Take in what the engine wrote since the last look, from the next epoch on."""
        if not self.follow:
            self.epochs += 1
            return
        last = self.segments[-1]
        before, now = self.snapshots[last.epoch], self._look()
        for old, new in zip(before, now, strict=True):
            new.check_growth(old)
        if all(old.names == new.names for old, new in zip(before, now, strict=True)):
            self.epochs += 1
        else:
            self._append(last.next(self.epochs, _by_bucket(now), self._repeats(now)), now)

    def _append(self, segment: Segment, snapshots: tuple[Snapshot, ...]) -> None:
        self.segments.append(segment)
        self.snapshots[segment.epoch] = snapshots
        self.epochs = 1

    def _look(self) -> tuple[Snapshot, ...]:
        """Snapshots of all that the first rank sees now; where it sees none, no rank waits for it."""
        mine = [_seen(source) for source in self.sources]
        agreed = self.world.group.share([seen if isinstance(seen, Exception) else write_names(seen) for seen in mine])
        lines = zip(self.sources, mine, [_told(seen) for seen in agreed], strict=True)
        return tuple(source.freeze(_awaited(source, seen, names), self.buckets) for source, seen, names in lines)

    def _repeats(self, snapshots: Sequence[Snapshot]) -> tuple[Fraction, ...]:
        return repeats_of(self.datasets, [sum(snapshot.counts) for snapshot in snapshots])

    def _first_needed(self, step: int) -> int:
        """The first segment that batches from a step on may still draw from."""
        number = max(number for number, segment in enumerate(self.segments) if segment.step <= step)
        while number and not self.segments[number].is_past_carry(step - self.segments[number].step):
            number -= 1
        return number


_Seen: TypeAlias = Sequence[str] | DatasetError | OSError
"""Names of units, or why there are none."""


def _seen(source: Source) -> _Seen:
    try:
        return source.refresh()
    except (DatasetError, OSError) as error:
        return error


def _told(seen: str | DatasetError | OSError) -> list[str]:
    """What the first rank sees; raises why it sees nothing."""
    if isinstance(seen, Exception):
        raise seen
    return read_names(seen)


def _awaited(source: Source, seen: _Seen, names: Sequence[str]) -> Sequence[str]:
    """The names, once all these units are to be seen here: the engine may have committed some since this rank looked.

    Raises:
        DatasetError: If one still isn't after so long that no listing can be as old.
    """
    wait_s, until = 0.0, time.monotonic() + _LAG_S
    while missing := sorted(set(names) - (set() if isinstance(seen, Exception) else set(seen))):
        if time.monotonic() >= until:
            why = f" ({seen})" if isinstance(seen, Exception) else ""
            raise DatasetError(
                f"{source.url}: the first rank sees unit {missing[0]}, this one doesn't{why}; is it one file system?"
            )
        time.sleep(wait_s)
        wait_s, seen = _LOOK_AGAIN_S, _seen(source)
    return names


def _by_bucket(snapshots: Sequence[Snapshot]) -> tuple[tuple[int, ...], ...]:
    return tuple(zip(*(snapshot.counts for snapshot in snapshots), strict=True))
