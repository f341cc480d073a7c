"""Few long reads for many short ones: ranges that lie near each other become one span."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct


class Range(NamedTuple):
    """Bytes ``[start, stop)`` of a file."""

    path: str
    start: int
    stop: int


class Span(Struct, frozen=True, gc=False):
    """One read: bytes ``[start, stop)`` of a file, and which of the given ranges lie in it, by position, ascending."""

    path: str
    start: int
    stop: int
    members: tuple[int, ...]


def coalesce(ranges: Sequence[Range], max_gap_bytes: int, max_span_bytes: int) -> list[Span]:
    """Disjoint spans that hold every range once, in the order of their first ranges.

    Neighbours join if at most ``max_gap_bytes`` lie between them and the span stays within ``max_span_bytes``. A
    range longer than that, and ranges that overlap, make a span as long as they need.
    """
    order = sorted(range(len(ranges)), key=lambda number: ranges[number])
    spans = _grow(ranges, order, max_gap_bytes, max_span_bytes)
    return sorted(spans, key=lambda span: span.members[0])


def _grow(ranges: Sequence[Range], order: Sequence[int], max_gap_bytes: int, max_span_bytes: int) -> Iterator[Span]:
    path, start, stop, members = "", 0, 0, list[int]()
    for number in order:
        part = ranges[number]
        is_near = part.start - stop <= max_gap_bytes and part.stop - start <= max_span_bytes
        if members and part.path == path and (is_near or part.start < stop):
            stop = max(stop, part.stop)
            members.append(number)
            continue
        if members:
            yield Span(path, start, stop, tuple(sorted(members)))
        path, start, stop, members = *part, [number]
    if members:
        yield Span(path, start, stop, tuple(sorted(members)))
