"""Ranges become spans: each in one, in order, with bounded waste."""

from hypothesis import given
from hypothesis import strategies as st

from training.stream.coalesce import Range, coalesce

_RANGES = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 500), st.integers(0, 60)).map(
        lambda x: Range(x[0], x[1], x[1] + x[2])
    ),
    max_size=40,
)


@given(_RANGES, st.integers(0, 80), st.integers(1, 300))
def test_every_range_lies_in_exactly_one_span(ranges: list[Range], gap: int, longest: int) -> None:
    spans = coalesce(ranges, gap, longest)
    assert sorted(number for span in spans for number in span.members) == list(range(len(ranges)))
    for span in spans:
        inside = [ranges[number] for number in span.members]
        assert all(part.path == span.path for part in inside)
        assert span.start == min(part.start for part in inside)
        assert span.stop == max(part.stop for part in inside)


@given(_RANGES, st.integers(0, 80), st.integers(1, 300))
def test_spans_share_no_byte_and_waste_at_most_the_gaps(ranges: list[Range], gap: int, longest: int) -> None:
    spans = coalesce(ranges, gap, longest)
    read = [(span.path, byte) for span in spans for byte in range(span.start, span.stop)]
    assert len(read) == len(set(read))
    wanted = {(part.path, byte) for part in ranges for byte in range(part.start, part.stop)}
    assert len(set(read) - wanted) <= gap * (len(ranges) - len(spans))


@given(_RANGES, st.integers(0, 80), st.integers(1, 300))
def test_spans_come_in_the_order_of_their_first_ranges(ranges: list[Range], gap: int, longest: int) -> None:
    firsts = [span.members[0] for span in coalesce(ranges, gap, longest)]
    assert firsts == sorted(firsts)


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 100))
def test_ranges_that_do_not_overlap_make_no_span_above_the_limit(steps: list[int], longest: int) -> None:
    ranges, place = [], 0
    for step in steps:
        ranges.append(Range("a", place + step, place + step + 10))
        place += step + 10
    assert all(span.stop - span.start <= max(10, longest) for span in coalesce(ranges, 1000, longest))
