"""The index of a plain WebDataset tar that has none: read once, from end to end."""

import io
import logging
import tarfile
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
from PIL import Image, UnidentifiedImageError

from manifests.shard import INDEX_SCHEMA
from training.stream.example import PICTURE_SUFFIXES
from training.stream.storage import Storage

_CHUNK = 8 * 2**20
_WORKERS = 4
_log = logging.getLogger(__name__)


class _StoredFile(io.RawIOBase):
    """A file of a storage, read in ranges."""

    def __init__(self, storage: Storage, path: str) -> None:
        self.storage, self.path, self.place, self.size = storage, path, 0, storage.stat(path).size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.size}[whence]
        self.place = start + offset
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        stop = min(self.place + len(view), self.size)
        if stop <= self.place:
            return 0
        data = self.storage.read_range(self.path, self.place, stop)
        view[: len(data)] = data
        self.place += len(data)
        return len(data)


def scan_tar(storage: Storage, path: str) -> pa.Table:
    """The index of a tar, as :data:`manifests.shard.INDEX_SCHEMA`; bucket and subjects are null.

    A sample's key is its members' path up to the first dot of the file name, as webdataset splits it. Of a damaged tar,
    the whole samples before the damage are in the index, and a warning says where it ends.

    Raises:
        OSError: If it can't be read, or is compressed.
    """
    rows: list[dict[str, Any]] = []
    with io.BufferedReader(_StoredFile(storage, path), _CHUNK) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for info in tar:
                    if info.isfile() and (row := _row(tar, info)):
                        rows.append(row)
            _check_end(storage, path)
        except tarfile.ReadError as error:
            if not rows and storage.read_range(path, 0, min(2, storage.stat(path).size)) == b"\x1f\x8b":
                raise OSError(
                    f"{storage.url}/{path}: compressed; gunzip it, as samples are read from the middle"
                ) from None
            rows = [row for row in rows if row["key"] != rows[-1]["key"]]
            _log.warning("%s/%s: damaged (%s); its first %d members are used", storage.url, path, error, len(rows))
    return pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)


def _check_end(storage: Storage, path: str) -> None:
    """A tar that stops without its closing blocks was cut between two members."""
    size = storage.stat(path).size
    if storage.read_range(path, max(0, size - 1024), size).strip(b"\0"):
        raise tarfile.ReadError("no end-of-archive blocks")


def _row(tar: tarfile.TarFile, info: tarfile.TarInfo) -> dict[str, Any] | None:
    """A member's row; none for names that make no sample, which webdataset leaves out too."""
    folder, slash, base = info.name.rpartition("/")
    stem, dot, name = base.partition(".")
    if not (stem and dot and name):
        return None
    stream = tar.extractfile(info)
    assert stream is not None
    data = stream.read()
    if len(data) != info.size:
        raise tarfile.ReadError(f"{info.name} has {len(data)} of {info.size} bytes")
    width, height = _picture_size(data) if name.lower() in PICTURE_SUFFIXES else (None, None)
    return {
        "key": f"{folder}{slash}{stem}",
        "member": name,
        "offset": info.offset_data,
        "size": info.size,
        "crc32": zlib.crc32(data),
        "width": width,
        "height": height,
    }


def _picture_size(data: bytes) -> tuple[int, int] | tuple[None, None]:
    """Width and height by the header; nothing where there is none to be read, which decoding will find too."""
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return image.size
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None, None


def scan_tars(storage: Storage, paths: Sequence[str]) -> Iterator[pa.Table]:
    """The indices of several tars, in order, some at a time."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        for first in range(0, len(paths), 4 * _WORKERS):
            yield from pool.map(lambda path: scan_tar(storage, path), paths[first : first + 4 * _WORKERS])
