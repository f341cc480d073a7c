"""Coalescing: each range in one span, spans apart, waste bounded."""

from hypothesis import given
from hypothesis import strategies as st

from training.stream.coalesce import Range, Span, coalesce

GAP, LONGEST = 16, 100


@st.composite
def ranges(draw: st.DrawFn) -> Range:
    start = draw(st.integers(0, 600))
    return Range(draw(st.sampled_from("ab")), start, start + draw(st.integers(0, 150)))


def covered(parts: list[Range]) -> set[tuple[str, int]]:
    return {(part.path, place) for part in parts for place in range(part.start, part.stop)}


@given(st.lists(ranges()))
def test_every_range_lies_in_exactly_one_span(parts: list[Range]) -> None:
    spans = coalesce(parts, GAP, LONGEST)
    assert sorted(number for span in spans for number in span.members) == list(range(len(parts)))
    for span in spans:
        inside = [parts[number] for number in span.members]
        assert {part.path for part in inside} == {span.path}
        assert (span.start, span.stop) == (min(part.start for part in inside), max(part.stop for part in inside))


@given(st.lists(ranges()))
def test_no_byte_is_read_twice(parts: list[Range]) -> None:
    read = [Range(span.path, span.start, span.stop) for span in coalesce(parts, GAP, LONGEST)]
    assert sum(part.stop - part.start for part in read) == len(covered(read))


@given(st.lists(ranges()))
def test_what_is_read_in_vain_is_bounded_by_the_gaps(parts: list[Range]) -> None:
    for span in coalesce(parts, GAP, LONGEST):
        wanted = covered([parts[number] for number in span.members])
        assert span.stop - span.start - len(wanted) <= GAP * (len(span.members) - 1)


@given(st.lists(ranges()))
def test_a_long_span_is_one_that_overlaps_make(parts: list[Range]) -> None:
    for span in coalesce(parts, GAP, LONGEST):
        if span.stop - span.start > LONGEST and len(span.members) > 1:
            assert any(
                a is not b and parts[a].start <= parts[b].start < parts[a].stop
                for a in span.members
                for b in span.members
                if a != b
            )


@given(st.lists(ranges()))
def test_spans_come_in_the_order_of_their_first_ranges(parts: list[Range]) -> None:
    firsts = [span.members[0] for span in coalesce(parts, GAP, LONGEST)]
    assert firsts == sorted(firsts)
    assert all(list(span.members) == sorted(span.members) for span in coalesce(parts, GAP, LONGEST))


@given(st.lists(ranges(), min_size=1), st.randoms())
def test_the_spans_do_not_depend_on_the_order_of_the_ranges(parts: list[Range], random: object) -> None:
    shuffled = list(parts)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    def bounds(some: list[Range]) -> set[tuple[str, int, int]]:
        return {(span.path, span.start, span.stop) for span in coalesce(some, GAP, LONGEST)}

    assert bounds(parts) == bounds(shuffled)


def test_neighbours_join_up_to_the_longest_span() -> None:
    parts = [Range("a", start, start + 40) for start in (0, 40, 80, 500)]
    assert coalesce(parts, GAP, LONGEST) == [
        Span("a", 0, 80, (0, 1)),
        Span("a", 80, 120, (2,)),
        Span("a", 500, 540, (3,)),
    ]
    assert coalesce(parts, GAP, 10**6)[0] == Span("a", 0, 120, (0, 1, 2))


def test_a_gap_joins_up_to_its_bound() -> None:
    assert len(coalesce([Range("a", 0, 10), Range("a", 10 + GAP, 50)], GAP, LONGEST)) == 1
    assert len(coalesce([Range("a", 0, 10), Range("a", 11 + GAP, 50)], GAP, LONGEST)) == 2
