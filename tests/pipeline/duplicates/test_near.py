"""Groups of near hashes, against comparing every pair."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.duplicates.near import first_alike, masks


def by_every_pair(hashes: list[int], max_distance: int) -> list[int]:
    firsts = list(range(len(hashes)))
    for _ in hashes:
        for i, one in enumerate(hashes):
            for j, other in enumerate(hashes):
                if (one ^ other).bit_count() <= max_distance:
                    firsts[i] = firsts[j] = min(firsts[i], firsts[j])
    return firsts


@st.composite
def families(draw: st.DrawFn) -> list[int]:
    """Some hashes, and others some bits away from these."""
    found: list[int] = draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
    for flips in draw(st.lists(st.lists(st.integers(0, 63), max_size=6), max_size=10)):
        parent = draw(st.sampled_from(found))
        found.append(parent ^ sum(1 << bit for bit in set(flips)))
    return found


@settings(deadline=None)
@given(families(), st.integers(0, 6))
def test_every_group_is_found_and_its_first_named(hashes: list[int], max_distance: int) -> None:
    found = first_alike(np.array(hashes, np.uint64), max_distance).tolist()
    assert found == by_every_pair(hashes, max_distance)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**64 - 1), st.sets(st.integers(0, 63), max_size=8), st.sampled_from([10, 10**5, 10**7, 10**9]))
def test_whatever_bits_differ_some_mask_spares_them(one: int, flips: set[int], count: int) -> None:
    other = one ^ sum(1 << bit for bit in flips)
    assert not flips or any((one & int(mask)) == (other & int(mask)) for mask in masks(count, len(flips)))


def test_no_hashes_make_no_groups() -> None:
    assert first_alike(np.array([], np.uint64), 4).tolist() == []
