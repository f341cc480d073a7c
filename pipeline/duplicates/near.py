"""Groups of 64-bit hashes that differ in few bits, found without comparing every pair.

Hashes that differ in at most ``d`` bits, cut into ``d + c`` bands, agree in at least ``c`` of them. So for every choice
of ``c`` bands, hashes that agree in these are compared, and no others (Manku, Jain and Das Sarma 2007, section 3).
"""

import math
from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

BITS = 64
MOST_BITS = 16
"""Largest distance there is sense in: pictures that have nothing in common differ in 32 bits or so."""

_MOST_CHOSEN = 3

Hashes: TypeAlias = npt.NDArray[np.uint64]
Places: TypeAlias = npt.NDArray[np.int64]


def first_alike(hashes: Hashes, max_distance: int) -> Places:
    """For each hash the place of the first of its group: those that steps of at most so many bits lead to."""
    unique, firsts, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    roots = _Roots(len(unique))
    for mask in masks(len(unique), max_distance):
        for left, right in _near_pairs(unique, mask, max_distance):
            roots.join(left, right)
    groups = roots.groups()
    first_of_group = np.full(len(unique), len(hashes), np.int64)
    np.minimum.at(first_of_group, groups, firsts)
    return np.asarray(first_of_group[groups][inverse.reshape(-1)], np.int64)


def masks(count: int, max_distance: int) -> Iterator[np.uint64]:
    """Masks such that any two hashes at most so far apart agree under one of them.

    As few bands are chosen at once as keep the hashes that agree by chance few; of more hashes, more.
    """
    if max_distance == 0:
        return
    wanted = math.log2(max(count, 2))
    chosen = next(
        (c for c in range(1, _MOST_CHOSEN) if c * BITS // (max_distance + c) >= wanted),
        _MOST_CHOSEN,
    )
    edges = [number * BITS // (max_distance + chosen) for number in range(max_distance + chosen + 1)]
    bands = [(1 << stop) - (1 << start) for start, stop in pairwise(edges)]
    for some in combinations(bands, chosen):
        yield np.uint64(sum(some))


def _near_pairs(hashes: Hashes, mask: np.uint64, max_distance: int) -> Iterator[tuple[int, int]]:
    """Pairs that agree under the mask and differ in at most so many bits, by place."""
    order = np.argsort(hashes & mask, kind="stable")
    ordered, agreed = hashes[order], (hashes & mask)[order]
    here = np.arange(len(hashes))
    for shift in range(1, len(hashes)):
        here = here[: np.searchsorted(here, len(hashes) - shift)]
        here = here[agreed[here] == agreed[here + shift]]
        if not len(here):
            return
        near = here[np.bitwise_count(ordered[here] ^ ordered[here + shift]) <= max_distance]
        yield from zip(order[near].tolist(), order[near + shift].tolist(), strict=True)


class _Roots:
    """Which things are joined, by a tree for each group."""

    def __init__(self, count: int) -> None:
        self._up = list(range(count))

    def _root(self, thing: int) -> int:
        while self._up[thing] != thing:
            self._up[thing] = thing = self._up[self._up[thing]]
        return thing

    def join(self, one: int, other: int) -> None:
        """Make one group of two."""
        one, other = sorted((self._root(one), self._root(other)))
        self._up[other] = one

    def groups(self) -> Places:
        """A number for each thing, equal for those that are joined."""
        return np.array([self._root(thing) for thing in range(len(self._up))], np.int64)
