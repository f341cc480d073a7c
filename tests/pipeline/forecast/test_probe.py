"""Which rows a probe takes."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.forecast.probe import spread


@given(st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(any), st.integers(1, 200), st.integers(1, 20))
def test_a_probes_units_are_apart_inside_their_parts_and_have_the_rows_asked_for(
    parts: list[int], rows: int, unit_rows: int
) -> None:
    units = list(spread(parts, rows, unit_rows))
    taken = [(unit.part, row) for unit in units for row in range(unit.start, unit.stop)]
    assert taken == sorted(set(taken)) and len(taken) == min(rows, sum(parts))
    assert all(0 <= unit.start < unit.stop <= parts[unit.part] and unit.rows <= unit_rows for unit in units)
    assert [unit.number for unit in units] == list(range(len(units)))


@given(st.integers(10**6, 10**12), st.integers(2, 40))
def test_they_come_from_all_over_the_source_however_large(total: int, count: int) -> None:
    units = list(spread([total], 10 * count, 10))
    assert [unit.start for unit in units] == [number * total // count for number in range(count)]
