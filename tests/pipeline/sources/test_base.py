"""Units and keys."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.sources.base import Part, cut_units

PARTS = st.lists(st.integers(0, 50), max_size=6)


@settings(deadline=None, max_examples=200)
@given(PARTS, st.integers(1, 20), st.none() | st.integers(0, 200))
def test_units_are_exactly_the_first_rows_in_order(rows: list[int], unit_rows: int, limit: int | None) -> None:
    units = cut_units(rows, unit_rows, limit)
    places = [(part, row) for part, count in enumerate(rows) for row in range(count)]
    assert [(unit.part, row) for unit in units for row in range(unit.start, unit.stop)] == places[:limit]
    assert [unit.number for unit in units] == list(range(len(units)))


@settings(deadline=None, max_examples=200)
@given(PARTS, st.integers(1, 20), st.none() | st.integers(0, 200))
def test_units_have_rows_and_no_more_than_asked(rows: list[int], unit_rows: int, limit: int | None) -> None:
    units = cut_units(rows, unit_rows, limit)
    assert all(1 <= unit.rows <= unit_rows for unit in units)
    for unit, following in pairwise(units):
        assert unit.rows == unit_rows or following.part != unit.part


@settings(deadline=None)
@given(PARTS, st.integers(1, 20), st.integers(0, 200), st.integers(0, 200))
def test_a_larger_limit_keeps_every_unit_but_the_last(rows: list[int], unit_rows: int, few: int, more: int) -> None:
    units = cut_units(rows, unit_rows, few)
    assert units[:-1] == cut_units(rows, unit_rows, few + more)[: max(0, len(units) - 1)]


def test_unit_names_sort_as_their_numbers() -> None:
    names = [unit.name for unit in cut_units([1200], 1)]
    assert names == sorted(names)


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**9 - 1))
def test_keys_of_a_part_differ_sort_by_row_and_have_no_dot(one: int, other: int) -> None:
    part = Part("a.b/c.parquet", 10**9, "0123456789abcdef")
    assert (part.key(one) < part.key(other)) == (one < other)
    assert "." not in part.key(one)
