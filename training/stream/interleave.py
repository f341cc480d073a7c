"""Several sequences merged into one, evenly spaced: any stretch of the merge is known without walking to it."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from training.stream.keyed import Numbers


def merged_counts(sizes: Sequence[int], position: int) -> tuple[int, ...]:
    """How many of each sequence lie among the first ``position`` elements of their evenly spaced merge.

    Element ``k`` of a sequence of ``n`` stands at ``(k + 1/2) / n``; where two stand at the same place, the earlier
    sequence's comes first. This is Webster's apportionment, so a count never falls as ``position`` rises.

    Raises:
        ValueError: If the position is not in ``[0, sum(sizes)]``.
    """
    total = sum(sizes)
    if not 0 <= position <= total:
        raise ValueError(f"position must be in [0, {total}], got {position}")
    slack = len(sizes) // 2 + 1  # Webster's counts are less than this below their exact shares
    counts = [max(0, position * size // total - slack) if size else 0 for size in sizes]
    for _ in range(position - sum(counts)):
        counts[_next_sequence(sizes, counts)] += 1
    return tuple(counts)


def _next_sequence(sizes: Sequence[int], counts: Sequence[int]) -> int:
    waiting = [number for number, size in enumerate(sizes) if counts[number] < size]
    return min(waiting, key=lambda number: Fraction(2 * counts[number] + 1, sizes[number]))


def merged(sizes: Sequence[int], start: int, stop: int) -> tuple[Numbers, Numbers]:
    """Elements ``[start, stop)`` of the merge as ``(which sequence, which of its elements)``, nearly evenly spaced.

    Inside the stretch each sequence's elements keep their order.
    """
    low, high = merged_counts(sizes, start), merged_counts(sizes, stop)
    which = np.repeat(np.arange(len(sizes)), np.subtract(high, low))
    inside = np.concatenate([np.arange(count) for count in np.subtract(high, low)])
    place = (inside + 0.5) / np.subtract(high, low)[which]
    order = np.argsort(place, kind="stable")
    return which[order], (inside + np.asarray(low)[which])[order]
