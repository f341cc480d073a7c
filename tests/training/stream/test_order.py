from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.stream.order import OrderParams, Segment, shuffle_blocks

Sample = tuple[int, int, int, int]


def params(batch_size: int = 4, block: int = 3, window: int = 16, seed: int = 5) -> OrderParams:
    return OrderParams(seed=seed, batch_size=batch_size, block=block, window=window)


def first(counts: list[list[int]], order: OrderParams, repeats: tuple[Fraction, ...] | None = None) -> Segment:
    return Segment(
        params=order,
        epoch=0,
        step=0,
        counts=tuple(map(tuple, counts)),
        repeats=repeats or (Fraction(1),) * len(counts[0]),
        turns=(0,) * len(counts[0]),
        carry=(0,) * len(counts),
    )


def batch(segment: Segment, step: int) -> list[Sample]:
    """The samples of a step as ``(bucket, source, number, turn)``."""
    plan = segment.batch_at(step)
    parts = segment.places(plan.bucket, plan.start, plan.start + segment.params.batch_size)
    return [
        (plan.bucket, int(source), int(number), int(turn))
        for _, places in parts
        for source, number, turn in zip(places.source, places.number, places.turn, strict=True)
    ]


COUNTS = st.integers(1, 3).flatmap(
    lambda sources: st.lists(st.lists(st.integers(0, 40), min_size=sources, max_size=sources), min_size=1, max_size=4)
)
ORDERS = st.builds(params, st.integers(1, 9), st.integers(1, 7), st.integers(1, 50), st.integers(0, 2**40))


@given(st.integers(0, 2**63), st.integers(1, 300), st.integers(1, 40))
def test_permuted_blocks_hold_every_sample_once_and_stay_whole(key: int, size: int, block: int) -> None:
    numbers = shuffle_blocks(key, np.arange(size), size, block)
    assert sorted(numbers.tolist()) == list(range(size))
    jumps = sum(after != before + 1 for before, after in pairwise(numbers.tolist()))
    assert jumps <= -(-size // block) - 1


@settings(deadline=None)
@given(COUNTS, ORDERS, st.integers(1, 3))
def test_each_sample_comes_once_an_epoch_but_for_what_is_carried_over(
    counts: list[list[int]], order: OrderParams, epochs: int
) -> None:
    segment = first(counts, order)
    seen = Counter(sample for step in range(segment.steps(epochs)) for sample in batch(segment, step))
    assert set(seen.values()) <= {1}
    for bucket, of_bucket in enumerate(counts):
        drawn = {sample[1:] for sample in seen if sample[0] == bucket}
        due = {(s, n, turn) for s, count in enumerate(of_bucket) for n in range(count) for turn in range(epochs)}
        assert drawn <= due
        assert len(due - drawn) == segment.left(bucket, epochs) < order.batch_size
        earlier = {sample for sample in due if sample[2] < epochs - 1}
        if sum(of_bucket) >= order.batch_size:
            assert earlier <= drawn


@settings(deadline=None)
@given(COUNTS.filter(lambda counts: any(map(any, counts))), ORDERS, st.integers(0, 60))
def test_a_batch_is_the_same_whether_or_not_those_before_were_asked_for(
    counts: list[list[int]], order: OrderParams, step: int
) -> None:
    walked = first(counts, order)
    for earlier in range(step):
        batch(walked, earlier)
    assert batch(walked, step) == batch(first(counts, order), step)
    assert len(batch(walked, step)) == order.batch_size


@settings(deadline=None)
@given(COUNTS.filter(lambda counts: any(map(any, counts))), ORDERS, st.data())
def test_a_batch_in_slices_is_the_batch(counts: list[list[int]], order: OrderParams, data: st.DataObject) -> None:
    segment = first(counts, order)
    step = data.draw(st.integers(0, 30))
    cut = data.draw(st.integers(0, order.batch_size))
    plan = segment.batch_at(step)
    sliced = [
        (plan.bucket, *sample)
        for start, stop in ((0, cut), (cut, order.batch_size))
        for _, places in segment.places(plan.bucket, plan.start + start, plan.start + stop)
        for sample in zip(places.source.tolist(), places.number.tolist(), places.turn.tolist(), strict=True)
    ]
    assert sliced == batch(segment, step)


@settings(deadline=None)
@given(COUNTS, ORDERS, st.data())
def test_nothing_is_lost_or_repeated_when_the_data_grows(
    counts: list[list[int]], order: OrderParams, data: st.DataObject
) -> None:
    before = first(counts, order)
    epochs = data.draw(st.integers(1, 3))
    grown = [[count + data.draw(st.integers(0, 9)) for count in of_bucket] for of_bucket in counts]
    after = before.next(epochs, tuple(map(tuple, grown)), before.repeats)
    assert after.step == before.steps(epochs)
    more = data.draw(st.integers(1, 2))
    seen = Counter(sample for step in range(before.steps(epochs)) for sample in batch(before, step))
    seen.update(sample for step in range(after.steps(more)) for sample in batch(after, step))
    assert set(seen.values()) <= {1}
    due = sum(map(sum, counts)) * epochs + sum(map(sum, grown)) * more
    assert due - len(seen) == sum(after.left(bucket, more) for bucket in range(len(grown)))


@settings(deadline=None)
@given(st.lists(st.fractions(Fraction(1, 5), 3, max_denominator=7), min_size=2, max_size=3), ORDERS)
def test_repeats_hold_over_the_epochs_and_no_sample_is_ahead_of_another_by_two(
    repeats: list[Fraction], order: OrderParams
) -> None:
    counts, epochs = [[21] * len(repeats)], 5
    segment = first(counts, order, tuple(repeats))
    drawn = Counter(sample[:3] for step in range(segment.steps(epochs)) for sample in batch(segment, step))
    for source, repeat in enumerate(repeats):
        times = [drawn[0, source, number] for number in range(21)]
        assert abs(sum(times) - 21 * repeat * epochs) < order.batch_size + 1
        assert max(times) - min(times) <= 1 + order.window // 21 + 1


def test_buckets_and_sources_are_mixed_all_through_the_epoch() -> None:
    segment = first([[6000, 2000], [1500, 500]], params(batch_size=10, block=8, window=512))
    steps = segment.steps(1)
    for start in range(0, steps, steps // 4):
        some = [sample for step in range(start, min(start + steps // 4, steps)) for sample in batch(segment, step)]
        assert abs(np.mean([sample[0] for sample in some]) - 0.2) < 0.05
        assert abs(np.mean([sample[1] for sample in some]) - 0.25) < 0.05


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    segment = first([[500]], params(batch_size=10))
    other = first([[500]], params(batch_size=10, seed=6))
    epoch = [sample[2] for step in range(50) for sample in batch(segment, step)]
    next_epoch = [sample[2] for step in range(50, 100) for sample in batch(segment, step)]
    other_seed = [sample[2] for step in range(50) for sample in batch(other, step)]
    assert sorted(epoch) == sorted(next_epoch) == sorted(other_seed) == list(range(500))
    assert len({tuple(epoch), tuple(next_epoch), tuple(other_seed)}) == 3


def test_a_rank_reads_whole_blocks_though_the_batch_is_mixed() -> None:
    """Of a window, half the ranks' blocks are the others' not."""
    segment = first([[4096]], params(batch_size=64, block=32, window=4096))
    halves: tuple[set[int], set[int]] = (set(), set())
    for step in range(64):
        for slot, sample in enumerate(batch(segment, step)):
            halves[slot // 32].add(sample[2] // 32)
    assert len(halves[0]) == len(halves[1]) == 64
    assert len(halves[0] & halves[1]) == 0


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="no samples"):
        first([[0], [0]], params()).batch_at(0)


def test_the_start_of_a_large_order_costs_no_walk() -> None:
    segment = first([[20_000_000_000]] * 5, OrderParams(seed=0, batch_size=1024))
    late = batch(segment, 90_000_000)
    assert len({sample[2] for sample in late}) == 1024
