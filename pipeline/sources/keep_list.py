"""The keep-list: which rows repeat another, and the row that is kept in their place.

A Parquet file of the duplicates alone, in the order of the source; whatever it does not name is kept. So it is small
where duplicates are few, and a unit's share of it is found by the row groups' least and greatest key.
"""

import hashlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.files import AnyPath, atomic_file, open_path
from manifests.record import SCHEMA_VERSION
from manifests.shard import SchemaVersionError, check_version
from pipeline.sources.base import SourceError

DUPLICATES: Mapping[str, str] = {
    "duplicate_url": "A row before it in the source has the same URL; the keep-list names it.",
    "duplicate_file": "A record before it has the same file, byte for byte; the keep-list names it.",
    "near_duplicate": "A record before it shows nearly the same picture; the keep-list names it.",
}
"""Why keep-lists drop rows, with a line for people."""

KEEP_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("kept", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)
"""One row a duplicate. ``kept`` is the key of the row that stays."""

_GROUP_ROWS = 1 << 16

_ANY = ("", chr(sys.maxunicode))
"""The least and greatest key of a row group that does not tell: other programs may have written the list anew."""


def write_keep_list(path: AnyPath, tables: Iterable[pa.Table]) -> int:
    """Write tables of duplicates, in order, whole or not at all; how many rows there are."""
    rows = 0
    with atomic_file(path) as file, pq.ParquetWriter(file, KEEP_SCHEMA, compression="zstd") as writer:
        for table in tables:
            rows += table.num_rows
            if table.num_rows:
                writer.write_table(table.cast(KEEP_SCHEMA), row_group_size=_GROUP_ROWS)
    return rows


@dataclass(frozen=True, slots=True)
class KeepList:
    """A keep-list as planned: where any worker finds it, a file or an object in a store, and its SHA-256."""

    path: str
    digest: str

    @classmethod
    def open(cls, name: str) -> "KeepList":
        """The list in a file.

        Raises:
            SourceError: If it is none.
            SchemaVersionError: If a newer Inlay wrote it.
        """
        try:
            path = open_path(name)
            path = path.absolute() if isinstance(path, Path) else path
            with path.open("rb") as file:
                schema = pq.read_schema(file)
                version = (schema.metadata or {}).get(b"schema_version", b"0")
                check_version(int(version) if version.isdigit() else 0, name)
                file.seek(0)
                digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"{name}: no keep-list: {error}; make one by `python -m pipeline dedup`") from None
        except SchemaVersionError:
            raise
        except ValueError as error:  # a URL that nothing opens
            raise SourceError(str(error)) from None
        if not _is_keep_list(schema):
            raise SourceError(
                f"{name}: has columns {_listed(schema)}, a keep-list has {_listed(KEEP_SCHEMA)}; make one by "
                "`python -m pipeline dedup`"
            )
        return cls(str(path), digest)

    def among(self, keys: Sequence[str]) -> Mapping[str, tuple[str, str]]:
        """Those of the keys that repeat another: key -> reason and the key that is kept.

        Raises:
            SourceError: If the file has changed since it was opened.
        """
        if not keys:
            return {}
        low, high, wanted = min(keys), max(keys), frozenset(keys)
        footer, ranges = _footer(self)
        groups = [number for number, (least, most) in enumerate(ranges) if least <= high and low <= most]
        if not groups:
            return {}
        with open_path(self.path).open("rb") as file:
            rows = pq.ParquetFile(file, metadata=footer).read_row_groups(groups).to_pylist()
        return {row["key"]: (row["reason"], row["kept"]) for row in rows if row["key"] in wanted}


def _is_keep_list(schema: Any) -> bool:
    return schema.names == KEEP_SCHEMA.names and all(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) for kind in schema.types
    )


def _listed(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema)


@lru_cache(maxsize=4)
def _footer(keep: KeepList) -> tuple[Any, list[tuple[str, str]]]:
    """The file's footer and each row group's least and greatest key; read, and the file checked, once a process."""
    with open_path(keep.path).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != keep.digest:  # type: ignore[arg-type]
            raise SourceError(f"{keep.path}: has changed since the run was planned; restore it, or start a new run")
        footer = pq.read_metadata(file)
    columns = [footer.row_group(number).column(0).statistics for number in range(footer.num_row_groups)]
    return footer, [(column.min, column.max) if column and column.has_min_max else _ANY for column in columns]
