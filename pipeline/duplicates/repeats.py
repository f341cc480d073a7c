"""Rows that repeat an earlier row's text exactly, found on disk, so that memory does not grow with their number.

Texts become 128-bit hashes (a chance collision among 10^10 texts: below 10^-18). Rows are dealt by hash into files,
each of which is sorted in memory by itself; what repeats is dealt by place into files again, to come out in order.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

_FILES = 256
"""How many files rows are dealt into: 10^9 rows make 4 million, some 250 MB, a file."""

_AT_ONCE = 1 << 19
"""Rows in memory while they are dealt."""

Text = tuple[str, str | None]
"""A row's key, and the text it is known by; ``None``: it repeats nothing."""

_SEEN = pa.schema([("hash", pa.binary(16)), ("place", pa.int64()), ("key", pa.string())])
_FOUND = pa.schema([("place", pa.int64()), ("key", pa.string()), ("kept", pa.string())])


class Deal:
    """Tables dealt into files by a number for each row."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        folder.mkdir(parents=True)
        self._paths = [folder / f"{number:03d}.arrow" for number in range(_FILES)]
        self._schema = schema
        self._writers = [pa.ipc.new_stream(path, schema) for path in self._paths]

    def add(self, table: pa.Table, numbers: Any) -> None:
        """Append every row to the file of its number."""
        order = np.argsort(numbers, kind="stable")
        bounds = np.searchsorted(numbers[order], np.arange(_FILES + 1))
        dealt = table.take(pa.array(order)).combine_chunks()
        for writer, start, stop in zip(self._writers, bounds[:-1], bounds[1:], strict=True):
            if start < stop:
                writer.write_table(dealt.slice(start, stop - start))

    def take(self) -> Iterator[pa.Table]:
        """Each file's rows, in the order of the files, which go as they are read."""
        for writer in self._writers:
            writer.close()
        for path in self._paths:
            with pa.ipc.open_stream(path) as reader:
                yield reader.read_all()
            path.unlink()


def find_repeats(texts: Iterable[Text], rows: int, folder: Path) -> Iterator[pa.Table]:
    """Tables of ``key`` and ``kept``: every row that repeats, in order, with the first row of its text.

    Args:
        texts: Of all rows, in order.
        rows: How many, at most.
        folder: For the files; must not be there yet.
    """
    seen = Deal(folder / "seen", _SEEN)
    for table in _hashed(texts):
        seen.add(table, _first_bytes(table["hash"]) * _FILES // 256)
    found = Deal(folder / "found", _FOUND)
    for table in seen.take():
        repeats = _repeats(table)
        found.add(repeats, repeats["place"].to_numpy() * _FILES // max(rows, 1))
    for table in found.take():
        yield table.sort_by("place").select(["key", "kept"])


def _hashed(texts: Iterable[Text]) -> Iterator[pa.Table]:
    hashes: list[bytes] = []
    places: list[int] = []
    keys: list[str] = []
    for place, (key, text) in enumerate(texts):
        if text is not None:
            hashes.append(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
            places.append(place)
            keys.append(key)
        if len(hashes) == _AT_ONCE:
            yield pa.table([hashes, places, keys], schema=_SEEN)
            hashes, places, keys = [], [], []
    yield pa.table([hashes, places, keys], schema=_SEEN)


def _first_bytes(hashes: pa.ChunkedArray) -> Any:
    return np.array([one[0] for one in hashes.to_pylist()], np.int64)


def _repeats(table: pa.Table) -> pa.Table:
    """Of one file's rows, those whose hash an earlier one has."""
    ordered = table.sort_by([("hash", "ascending"), ("place", "ascending")]).combine_chunks()
    hashes = np.array(ordered["hash"].to_pylist(), "S16") if table.num_rows else np.empty(0, "S16")
    is_first = np.r_[True, hashes[1:] != hashes[:-1]] if table.num_rows else np.empty(0, bool)
    firsts = np.maximum.accumulate(np.where(is_first, np.arange(len(hashes)), 0))
    repeated = np.flatnonzero(~is_first)
    kept = ordered["key"].take(pa.array(firsts[repeated]))
    return pa.table(
        [ordered["place"].take(pa.array(repeated)), ordered["key"].take(pa.array(repeated)), kept], schema=_FOUND
    )
