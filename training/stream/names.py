"""Sorted names with running numbers, written short: ``000000..000127,000130``."""

import re
from collections.abc import Iterable, Sequence

_NUMBERED = re.compile(r"(.*?)([0-9]+)")


def write_names(names: Sequence[str]) -> str:
    """Sorted names as one line; a run of names that differ by one in their last digits is ``first..last``.

    Raises:
        ValueError: If a name has a comma or two dots in a row, which the line uses itself.
    """
    bad = next((name for name in names if "," in name or ".." in name), None)
    if bad is not None:
        raise ValueError(f"{bad!r}: a shard's name may hold neither a comma nor two dots in a row; rename the file")
    runs: list[list[str]] = []
    for name in names:
        if runs and _follows(runs[-1][-1], name):
            runs[-1] = [runs[-1][0], name]
        else:
            runs.append([name])
    return ",".join("..".join(run) for run in runs)


def _follows(before: str, after: str) -> bool:
    first, second = _NUMBERED.fullmatch(before), _NUMBERED.fullmatch(after)
    if not first or not second or first[1] != second[1] or len(first[2]) != len(second[2]):
        return False
    return int(second[2]) == int(first[2]) + 1


def read_names(line: str) -> list[str]:
    """The names that :func:`write_names` wrote."""
    return [name for part in line.split(",") if part for name in _run(*part.split(".."))]


def _run(first: str, last: str | None = None) -> Iterable[str]:
    if last is None:
        return (first,)
    start, stop = _NUMBERED.fullmatch(first), _NUMBERED.fullmatch(last)
    if not start or not stop:
        raise ValueError(f"{first}..{last}: not a run of numbered names")
    width = len(start[2])
    return (f"{start[1]}{number:0{width}d}" for number in range(int(start[2]), int(stop[2]) + 1))
