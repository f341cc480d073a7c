"""A unit about to be packed: read once from start to end, and checked against what was committed."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.shard import REJECT_SCHEMA, check_version
from manifests.tar import tar_spans
from manifests.unit_record import UnitRecord
from pipeline.ledger import Layout

_CHUNK = 1 << 20
"""Bytes read at once where samples need not be told apart."""


class PackError(ValueError):
    """A run that cannot be packed; the message names the unit and says what would help."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """A unit about to be packed: where it lies, its record, and which of its rejected rows still stand."""

    layout: Layout
    record: UnitRecord
    gone: frozenset[str]

    def broken(self, what: str) -> PackError:
        """The error that says what is wrong with it, and what to do."""
        root, unit = self.layout.root, self.layout.unit(self.record.name)
        return PackError(
            f"unit {self.record.name} of {root}: {what}; `python -m pipeline verify {root}` says more; delete {unit} "
            "and run again to make the unit anew, then pack again"
        )

    def index(self) -> pa.Table:
        """Its index.

        Raises:
            PackError: If it is not the one that was committed.
        """
        data = self._read("index", self.record.index_sha256)
        table = pq.read_table(pa.BufferReader(data))
        check_version(int(table.schema.metadata[b"schema_version"]), str(self.layout.index(self.record.name)))
        return table

    def rejects(self) -> pa.Table:
        """Its rejected rows that no later unit accounts for.

        Raises:
            PackError: If they are not those that were committed.
        """
        if self.record.rejects_sha256 is None:
            return REJECT_SCHEMA.empty_table()
        table = pq.read_table(pa.BufferReader(self._read("rejects", self.record.rejects_sha256)))
        return table.filter(pa.array([key not in self.gone for key in table["key"].to_pylist()], pa.bool_()))

    def _read(self, what: str, sha256: str) -> bytes:
        path = self.layout.index(self.record.name) if what == "index" else self.layout.rejects(self.record.name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise self.broken(f"{path} is missing") from None
        if hashlib.sha256(data).hexdigest() != sha256:
            raise self.broken(f"{path} is not what was committed, by its SHA-256")
        return data

    def open(self) -> "UnitTar":
        """Its tar.

        Raises:
            PackError: If it is missing.
        """
        path = self.layout.tar(self.record.name)
        try:
            return UnitTar(self, path.open("rb"))
        except FileNotFoundError:
            raise self.broken(f"{path} is missing") from None

    def spans(self, index: pa.Table) -> list[tuple[int, int]]:
        """Where its samples lie in its tar.

        Raises:
            PackError: If the index does not fit a tar of ours.
        """
        try:
            return tar_spans(index)
        except ValueError as error:
            raise self.broken(str(error)) from None


class UnitTar:
    """A unit's tar, read once from its start to its end."""

    def __init__(self, unit: Unpacked, file: BinaryIO) -> None:
        self._unit = unit
        self._file = file
        self._digest = hashlib.sha256()

    def __enter__(self) -> "UnitTar":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, size: int) -> bytes:
        """The next bytes.

        Raises:
            PackError: If the tar ends before.
        """
        data = self._file.read(size)
        if len(data) != size:
            raise self._unit.broken("its tar is cut short")
        self._digest.update(data)
        return data

    def chunks(self, size: int) -> Iterator[bytes]:
        """The next bytes, some at a time."""
        for start in range(0, size, _CHUNK):
            yield self.take(min(_CHUNK, size - start))

    def check(self) -> None:
        """Read what is left.

        Raises:
            PackError: If the tar as a whole is not what was committed.
        """
        while data := self._file.read(_CHUNK):
            self._digest.update(data)
        if self._digest.hexdigest() != self._unit.record.tar_sha256:
            raise self._unit.broken("its tar is not what was committed, by its SHA-256")
