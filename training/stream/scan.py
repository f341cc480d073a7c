"""The index of a plain WebDataset tar that has none: read once, from end to end."""

import io
import logging
import re
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, BinaryIO

import pyarrow as pa
from PIL import Image
from zlib_ng import zlib_ng

from manifests.shard import INDEX_SCHEMA
from training.stream.example import PICTURE_SUFFIXES, SampleError
from training.stream.pixels import read_header
from training.stream.storage import Storage

_CHUNK = 8 * 2**20
_WORKERS = 4
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd")
"""How gzip, bzip2, xz and zstandard files begin."""
_SAMPLE = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)", re.DOTALL)
_META = re.compile(r"__[^/]*__(?:$|/)")
_MOST_PIXELS = 2**28
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


class _BufferedFile(io.BufferedReader):
    """A file that is never asked for more than it has: a damaged header may promise any number of bytes."""

    def __init__(self, file: _StoredFile) -> None:
        super().__init__(file, _CHUNK)
        self.size = file.size

    def read(self, size: int | None = -1) -> bytes:
        left = max(0, self.size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


def scan_tar(storage: Storage, path: str) -> pa.Table:
    """The index of a tar, as :data:`manifests.shard.INDEX_SCHEMA`; bucket and subjects are null.

    A sample's key is its members' path up to the first dot of the file name, as webdataset splits it. Of a damaged tar,
    the samples that are known to be whole are in the index, and a warning says how far it goes.

    Raises:
        OSError: If it can't be read, or is compressed.
    """
    rows: list[dict[str, Any]] = []
    with _BufferedFile(_StoredFile(storage, path)) as file:
        _refuse_compressed(f"{storage.url}/{path}", file)
        try:
            _collect(file, rows)
        except (tarfile.TarError, ValueError) as error:  # in its last sample, or where that may go on
            rows = [row for row in rows if row["key"] != rows[-1]["key"]]
            _log.warning("%s/%s: damaged (%s); its first %d members are used", storage.url, path, error, len(rows))
    return pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)


def _refuse_compressed(url: str, file: BinaryIO) -> None:
    start = file.read(6)
    file.seek(0)
    if start.startswith(_COMPRESSED):
        raise OSError(f"{url}: compressed; unpack it to a plain tar (gunzip, unzstd …): samples are read from within")


def _collect(file: BinaryIO, rows: list[dict[str, Any]]) -> None:
    """Add the members' rows. Of a damaged tar, the last row is of the sample that the damage is in or follows."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            if info.isfile() and not info.issparse() and (names := _split(info.name)):
                rows.append({"key": names[0], "member": names[1], "offset": info.offset_data, "size": info.size})
                rows[-1].update(_content(tar, info, names[1]))
        file.seek(tar.offset)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no end-of-archive block")


def _split(name: str) -> tuple[str, str] | None:
    """Key and member name; none for names that make no sample, which webdataset leaves out too."""
    found = None if _META.match(name) else _SAMPLE.fullmatch(name)
    return (found[1], found[2]) if found else None


def _content(tar: tarfile.TarFile, info: tarfile.TarInfo, name: str) -> dict[str, int | None]:
    stream = tar.extractfile(info)
    assert stream is not None
    start = stream.read(_CHUNK)
    size, crc32 = len(start), zlib_ng.crc32(start)
    while part := stream.read(_CHUNK):
        size, crc32 = size + len(part), zlib_ng.crc32(part, crc32)
    if size != info.size:
        raise tarfile.ReadError(f"{info.name} has {size} of {info.size} bytes")
    width, height = _picture_size(start) if name.lower() in PICTURE_SUFFIXES else (None, None)
    return {"crc32": crc32, "width": width, "height": height}


def _picture_size(data: bytes) -> tuple[int, int] | tuple[None, None]:
    """Width and height by the header, upright; nothing where there is none to be read, which decoding will find too.

    Nothing either for pictures so large that Pillow warns of them, whatever the process makes of warnings.
    """
    try:
        header = read_header(data, "picture", Image.MAX_IMAGE_PIXELS or _MOST_PIXELS)
    except SampleError:
        return None, None
    return header.width, header.height


def scan_tars(storage: Storage, paths: Sequence[str]) -> Iterator[pa.Table]:
    """The indices of several tars, in order, some at a time."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        for first in range(0, len(paths), 4 * _WORKERS):
            yield from pool.map(lambda path: scan_tar(storage, path), paths[first : first + 4 * _WORKERS])
