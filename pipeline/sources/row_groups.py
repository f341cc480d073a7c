"""Rows of a Parquet file by slabs, so that memory does not grow with row groups; damaged ones are told apart."""

import io
import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import override

from pipeline.sources.base import SourceError
from pipeline.sources.paths import File

_SLAB_ROWS = 8192
"""Rows decoded at once; row groups of LAION hold a million."""

_BUFFER_BYTES = 1 << 20
"""Bytes a column is read ahead."""

_BROKEN = (pa.ArrowException, OSError, ValueError)
"""What pyarrow raises on damaged pages; and on storage that fails, which must not be taken for damage."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Some consecutive rows.

    Attributes:
        values: By column; text as bytes, ``None`` where a row is damaged.
        damage: Why a row cannot be read, by its position here.
    """

    values: Mapping[str, list[Any]]
    damage: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Slab:
    """Rows ``[start, stop)`` of the file as Arrow arrays by column, or why they are damaged."""

    start: int
    stop: int
    columns: Mapping[str, Any] | None = None
    damage: str = ""


class Cursor:
    """Reads a file's rows, holding one slab of them.

    Consecutive reads decode nothing twice. Going back, or past the next row group, starts at a row group's first row.
    Slabs begin anew with each row group, so that which rows are damaged does not depend on where reading began: those
    from the first slab of a row group that cannot be decoded to the group's end.
    """

    def __init__(self, file: File, metadata: Any, columns: Sequence[str]) -> None:
        """Open the file and read nothing yet.

        Args:
            file: The file.
            metadata: Its footer, as pyarrow reads it.
            columns: Names of those to read.
        """
        self._file = file
        self._stream = _Stream(file.open())
        options = {"buffer_size": _BUFFER_BYTES, "pre_buffer": False, "page_checksum_verification": True}
        self._data = data = pq.ParquetFile(self._stream, metadata=metadata, **options)
        self._columns = list(columns)
        sizes = [data.metadata.row_group(group).num_rows for group in range(data.num_row_groups)]
        self._group_starts = [0, *accumulate(sizes)]
        self._lock = threading.Lock()
        self._slabs: Iterator[_Slab] = iter(())
        self._slab = _Slab(-1, -1)

    def take(self, start: int, stop: int) -> Rows:
        """Rows ``[start, stop)``.

        Raises:
            SourceError: If the storage fails, or memory does not suffice.
        """
        rows = Rows({name: [] for name in self._columns})
        with self._lock:
            self._seek(start)
            while start < stop:
                self._advance_to(start)
                end = min(stop, self._slab.stop)
                self._append(rows, start, end)
                start = end
        return rows

    def _seek(self, row: int) -> None:
        group = bisect_right(self._group_starts, row) - 1
        first = self._group_starts[group]
        if not (self._slab.start <= row and first <= self._slab.stop):
            self._slabs = (slab for later in range(group, self._data.num_row_groups) for slab in self._read(later))
            self._slab = _Slab(first, first)

    def _advance_to(self, row: int) -> None:
        try:
            while row >= self._slab.stop:
                self._slab = next(self._slabs)
        except (SourceError, StopIteration, MemoryError) as error:
            self._slab = _Slab(-1, -1)
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{self._file.name}: row {row} cannot be read: {error!r}") from None

    def _append(self, rows: Rows, start: int, stop: int) -> None:
        slab = self._slab
        for name, values in rows.values.items():
            if slab.columns is None:
                values += [None] * (stop - start)
            else:
                values += slab.columns[name].slice(start - slab.start, stop - start).to_pylist()
        if slab.damage:
            done = len(next(iter(rows.values.values()))) - (stop - start)
            rows.damage.update(dict.fromkeys(range(done, done + stop - start), slab.damage))

    def _read(self, group: int) -> Iterator[_Slab]:
        start, stop = self._group_starts[group : group + 2]
        why = "it ends early"
        try:
            for batch in self._data.iter_batches(_SLAB_ROWS, row_groups=[group], columns=self._columns):
                columns = {name: _checked(batch.column(name)) for name in self._columns}
                yield _Slab(start, min(stop, start + batch.num_rows), columns)
                start += batch.num_rows
        except MemoryError:  # ArrowMemoryError, too: a larger machine may read it
            raise
        except _BROKEN as error:
            if self._stream.failure:
                raise SourceError(f"{self._file.name}: cannot be read: {self._stream.failure}") from None
            why = str(error).splitlines()[0] if str(error) else repr(error)
        if start < stop:
            yield _Slab(
                start, stop, damage=f"rows {start} to {stop - 1} cannot be read, their row group is damaged: {why}"
            )


class _Stream(io.RawIOBase):
    """An open file that remembers how reading it failed: Arrow raises the same for that as for damage."""

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self.failure: OSError | None = None

    @override
    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except OSError as error:
            self.failure = error
            raise
        buffer[: len(data)] = data
        return len(data)

    @override
    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    @override
    def tell(self) -> int:
        return int(self._file.tell())

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def close(self) -> None:
        self._file.close()
        super().close()


def _checked(column: Any) -> Any:
    """The values, text as bytes, since the file promises no valid UTF-8; whole, or Arrow raises."""
    column = column.cast(pa.large_binary()) if is_text(column.type) else column
    column.validate(full=True)
    return column


def is_text(kind: Any) -> bool:
    """True for an Arrow type of text or bytes, in dictionaries too."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    tests = (
        *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
        *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view),
    )
    return any(test(kind) for test in tests)
