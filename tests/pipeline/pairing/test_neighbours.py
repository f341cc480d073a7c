from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.pairing.neighbours import Limits, Nearest, Vectors, blocks, count_blocks


@st.composite
def vectors(draw: st.DrawFn) -> Vectors:
    """Few values, all multiples of 1/8: sums are exact in any order, and many are equal."""
    count = draw(st.integers(1, 14))
    codes = st.lists(st.integers(-1, 3), min_size=count, max_size=count).map(np.array)
    values = draw(st.lists(st.lists(st.integers(-4, 4), min_size=3, max_size=3), min_size=count, max_size=count))
    return Vectors(values=np.array(values, np.float32) / 8, pictures=draw(codes) + draw(codes), classes=draw(codes))


limits = st.tuples(st.integers(-8, 8), st.integers(1, 8)).map(
    lambda of: Limits(low=of[0] / 16, high=(of[0] + of[1]) / 16)
)
sizes = st.integers(1, 6)


def links(given: Vectors, within: Limits, size: int) -> dict[int, tuple[int, float]]:
    nearest = Nearest(given, within)
    for block in blocks(given.classes, size):
        nearest.see(block)
    return {int(n): (int(nearest.place[n]), float(nearest.similarity[n])) for n in nearest.mutual()}


def by_hand(given: Vectors, within: Limits) -> dict[int, tuple[int, float]]:
    """The same, one by one: of equally near others the first counts."""

    def allowed(a: int, b: int) -> bool:
        is_same = given.classes[a] == given.classes[b] >= 0 and given.pictures[a] != given.pictures[b]
        return bool(is_same and a != b and within.low <= similar[a, b] < within.high)

    similar = np.round(given.values @ given.values.T, 6)
    everyone = range(len(similar))
    best = {
        a: max((b for b in everyone if allowed(a, b)), key=lambda b: (similar[a, b], -b), default=-1) for a in everyone
    }
    return {a: (b, float(similar[a, b])) for a, b in best.items() if b >= 0 and best[b] == a}


@given(vectors(), limits, sizes)
def test_links_are_those_found_one_by_one_whatever_the_blocks(given: Vectors, within: Limits, size: int) -> None:
    assert links(given, within, size) == by_hand(given, within)


@given(vectors(), limits)
def test_links_are_mutual_within_limits_and_between_pictures(given: Vectors, within: Limits) -> None:
    found = links(given, within, 4)
    for item, (other, similarity) in found.items():
        assert found[other] == (item, similarity)
        assert within.low <= similarity < within.high
        assert given.pictures[item] != given.pictures[other] and given.classes[item] == given.classes[other] >= 0


def test_links_do_not_hang_on_the_order_of_items() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 8)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    order = rng.permutation(300)
    plain, pictures = np.zeros(300, np.int64), np.arange(300)
    within = Limits(low=0.5, high=0.99)
    found = links(Vectors(values=values, pictures=pictures, classes=plain), within, 64)
    turned = links(Vectors(values=values[order], pictures=pictures, classes=plain), within, 50)
    assert len(found) > 100
    assert {(order[a], order[b]) for a, (b, _) in turned.items()} == {(a, b) for a, (b, _) in found.items()}


@given(st.lists(st.integers(-2, 3), max_size=30).map(np.array), sizes)
def test_every_two_items_of_a_class_meet_once(classes: Any, size: int) -> None:
    classes = classes.astype(np.int64)
    seen: list[frozenset[int]] = []
    count = 0
    for rows, columns in blocks(classes, size):
        count += 1
        assert len(rows) <= size and len(columns) <= size
        seen += met(rows, columns)
    pairs = {frozenset((a, b)) for a in range(len(classes)) for b in range(a) if classes[a] == classes[b] >= 0}
    assert len(seen) == len(set(seen)) and set(seen) == pairs
    assert count == count_blocks(classes, size)


def met(rows: Sequence[int], columns: Sequence[int]) -> list[frozenset[int]]:
    if rows[0] == columns[0]:
        return [frozenset((a, b)) for n, a in enumerate(rows) for b in rows[:n]]
    return [frozenset((a, b)) for a in rows for b in columns]
