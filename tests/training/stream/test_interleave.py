from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.stream.interleave import merged, merged_counts

SIZES = st.lists(st.integers(0, 60), min_size=1, max_size=6)


def walked(sizes: list[int]) -> list[int]:
    """Which sequence stands at each place, by definition."""
    places = [(Fraction(2 * k + 1, 2 * size), number) for number, size in enumerate(sizes) for k in range(size)]
    return [number for _, number in sorted(places)]


@given(SIZES)
def test_counts_are_those_of_the_walk(sizes: list[int]) -> None:
    walk = walked(sizes)
    for position in range(len(walk) + 1):
        counts = merged_counts(sizes, position)
        assert list(counts) == [walk[:position].count(number) for number in range(len(sizes))]


@given(SIZES, st.data())
def test_stretches_hold_every_element_once_in_its_own_order(sizes: list[int], data: st.DataObject) -> None:
    total = sum(sizes)
    cuts = sorted(data.draw(st.lists(st.integers(0, total), max_size=4)))
    elements = []
    for start, stop in zip([0, *cuts], [*cuts, total], strict=True):
        which, index = merged(sizes, start, stop)
        assert len(which) == stop - start
        elements += list(zip(which.tolist(), index.tolist(), strict=True))
    assert sorted(elements) == [(n, k) for n, size in enumerate(sizes) for k in range(size)]
    for number, size in enumerate(sizes):
        assert [k for n, k in elements if n == number] == list(range(size))


@given(st.lists(st.integers(1, 10**12), min_size=2, max_size=6), st.floats(0, 1))
def test_shares_hold_at_any_place_of_sequences_of_any_length(sizes: list[int], place: float) -> None:
    position = int(place * sum(sizes))
    counts = merged_counts(sizes, position)
    assert sum(counts) == position
    for count, size in zip(counts, sizes, strict=True):
        assert abs(count - Fraction(position * size, sum(sizes))) <= len(sizes) / 2 + 1


def test_a_position_outside_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[0, 5\], got 6"):
        merged_counts([2, 3], 6)
