"""Deletion lists: URLs and files that may not be used, kept as eight bytes each."""

import csv
import hashlib
import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import PurePosixPath
from typing import Any
from zipfile import BadZipFile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from manifests.files import open_path
from manifests.transient import client_errors, is_refusal

_COLUMNS = ("url", "sha256", "md5", "hash")
_HASH = re.compile(r"[0-9a-fA-F]{32}(?:[0-9a-fA-F]{32})?")
_MD5_DIGITS = 32
_MD5_BYTES, _SHA256_BYTES = 16, 32
_ENTRY = re.compile(rf"{_HASH.pattern}$|[A-Za-z][A-Za-z0-9+.-]*://")
_PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_UNREADABLE = (EOFError, zlib.error, LZMAError, BadZipFile, csv.Error, UnicodeDecodeError, pa.ArrowInvalid)
_TEXTS = (
    *(pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null),
    *(pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary),
)


class Deletions:
    """A set of URLs and of hashes, of files or of URLs.

    A SHA-256 or MD5 stands for the file that has it and for the URL whose text has it. Kept is the first half of an
    MD5, or a quarter of a SHA-256: of a billion rows against a million entries, one in 20,000 runs loses one row that
    is on no list.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        keys: list[NDArray[np.uint64]] = [np.empty(0, np.uint64)]
        self._has_md5 = False
        for chunk in _chunks(entries):
            self._has_md5 |= any(_is_md5(entry) for entry in chunk)
            keys.append(np.fromiter(map(_key, chunk), np.uint64, len(chunk)))
        self._keys = np.unique(np.concatenate(keys))

    def __len__(self) -> int:
        return len(self._keys)

    def has_url(self, url: str) -> bool:
        """Whether a URL, as the metadata has it, is on a list by itself or by its hash."""
        return len(self) > 0 and self._has_content(url.strip().encode("utf-8", "surrogatepass"))

    def has_file(self, body: bytes, sha256: str) -> bool:
        """Whether a file is, by its SHA-256 in hex or its MD5."""
        if not len(self):
            return False
        return self._has(_key(sha256)) or (self._has_md5 and self._has(_key(_md5(body))))

    def _has_content(self, content: bytes) -> bool:
        return self.has_file(content, hashlib.sha256(content).hexdigest())

    def _has(self, key: int) -> bool:
        at = int(np.searchsorted(self._keys, np.uint64(key)))
        return at < len(self._keys) and int(self._keys[at]) == key


def read_deletions(paths: Iterable[str]) -> Deletions:
    """Read lists: text, one entry a line; or Parquet, CSV, TSV with a column url, sha256, md5 or hash.

    All but Parquet may be compressed.

    Raises:
        ValueError: If one cannot be read, naming it and the remedy.
    """
    return Deletions(entry for path in paths for entry in _entries(path))


def digest_of(path: str) -> str:
    """Hex SHA-256 of a list's file.

    Raises:
        ValueError: If it cannot be read, naming it.
    """
    with _named(path), fsspec.open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Name the list whose reading fails, on a disk or in a store, and what would help."""
    try:
        open_path(path)
    except ValueError as error:
        raise ValueError(f"deletions: {error}") from None
    try:
        yield
    except (*client_errors(), ImportError, *_UNREADABLE) as error:
        remedy = "check the credentials" if is_refusal(error) else "name a whole file that is there"
        raise ValueError(f"deletions: {path} cannot be read: {error}; {remedy}") from error


def _entries(path: str) -> Iterator[str]:
    """A list's entries; among them must be one that can match."""
    count, can_match = 0, False
    with _named(path):
        for entry in _raw_entries(path):
            count += 1
            can_match = can_match or bool(_ENTRY.match(entry))
            yield entry
    if count and not can_match:
        raise ValueError(
            f"deletions: {path}: none of its {count:,} entries is a URL, SHA-256 or MD5, as {entry[:80]!r}"
        )


def _raw_entries(path: str) -> Iterator[str]:
    suffixes = [suffix.lower() for suffix in PurePosixPath(path).suffixes]
    if suffixes[-1:] == [".parquet"]:
        return _rows(path)
    kind = next((suffix for suffix in reversed(suffixes) if suffix not in _PACKED), "")
    return _cells(path, _SEPARATORS[kind]) if kind in _SEPARATORS else _lines(path)


def _lines(path: str) -> Iterator[str]:
    with fsspec.open(path, "rt", compression="infer", encoding="utf-8-sig") as file:
        for line in file:
            if entry := line.strip():
                yield entry


def _cells(path: str, separator: str) -> Iterator[str]:
    with fsspec.open(path, "rt", compression="infer", encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator)
        header = [name.strip() for name in next(rows, ())]
        places = [header.index(name) for name in _known(path, header)]
        for row in rows:
            yield from (row[at].strip() for at in places if at < len(row) and row[at].strip())


def _known(path: str, columns: list[str]) -> list[str]:
    """Those of a table's columns that hold URLs or hashes."""
    if names := [name for name in columns if name.lower() in _COLUMNS]:
        return names
    raise ValueError(f"deletions: {path} has no column {', '.join(_COLUMNS)}; it has {', '.join(columns)[:200]}")


def _rows(path: str) -> Iterator[str]:
    with fsspec.open(path, "rb") as file:
        table = pq.ParquetFile(file)
        names = _known(path, table.schema_arrow.names)
        for name in names:
            _check_type(path, name, table.schema_arrow.field(name).type)
        for batch in table.iter_batches(columns=names):
            for column in batch.columns:
                yield from (_text(entry).strip() for entry in column.to_pylist() if entry)


def _check_type(path: str, name: str, kind: Any) -> None:
    """Refuse a column whose values would match nothing, such as LAION's numbers by the name of hash."""
    while pa.types.is_dictionary(kind):
        kind = kind.value_type
    if not any(test(kind) for test in _TEXTS):
        raise ValueError(f"deletions: {path}: column {name!r} holds {kind}; URLs and hashes are text or bytes")


def _text(entry: str | bytes) -> str:
    """A text as it is, or as UTF-8; the digits of a hash that is in bytes of its own."""
    if isinstance(entry, str):
        return entry
    is_hash = len(entry) in (_MD5_BYTES, _SHA256_BYTES) and not _HASH.fullmatch(entry.decode("latin-1"))
    return entry.hex() if is_hash else entry.decode()


def _chunks(entries: Iterable[str], size: int = 100_000) -> Iterator[list[str]]:
    chunk: list[str] = []
    for entry in entries:
        chunk.append(entry)
        if len(chunk) == size:
            yield chunk
            chunk = []
    yield chunk


def _is_md5(entry: str) -> bool:
    return len(entry) == _MD5_DIGITS and bool(_HASH.fullmatch(entry))


def _key(entry: str) -> int:
    """The first eight bytes of a hash, or of a URL's SHA-256."""
    digits = entry if _HASH.fullmatch(entry) else hashlib.sha256(entry.encode("utf-8", "surrogatepass")).hexdigest()
    return int(digits[:16], 16)


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
