"""Remote files on the local disk: aligned chunks, bounded in bytes, shared by this machine's processes.

Why not a library's: fsspec's caches know no bound in bytes, and their records of what is there tear when several
processes write them or one is killed; diskcache unpickles what it finds and leaves orphaned files after a kill.
"""

import fcntl
import hashlib
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

from training.stream.storage import FileStat, Storage

_CHUNK_BYTES = 2**20
"""Near a block of samples, so that little else is fetched with it, and large against a request's overhead."""
_KEPT = 0.9
"""Share of the bound that is left when chunks are deleted: seldom, and many at once."""
_TEMPORARY = ".tmp"
_log = logging.getLogger(__name__)


class ChunkStore:
    """Files of up to a chunk's size in a folder, ``limit_bytes`` in all; the least recently used are deleted.

    A chunk appears whole, by renaming. Space is taken, and chunks are deleted, by one process at a time. A process
    killed at any moment leaves at most a temporary file, which the next deletion recognizes by its missing lock.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit = folder, limit_bytes
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, name: str, start: int, stop: int, size: int) -> bytes | None:
        """Bytes ``[start, stop)`` of a chunk that has ``size``; none if it isn't here."""
        try:
            with (self._folder / name).open("rb", buffering=0) as file:
                if os.fstat(file.fileno()).st_size != size:
                    return None
                os.utime(file.fileno())
                data = os.pread(file.fileno(), stop - start, start)
        except OSError:
            return None
        return data if len(data) == stop - start else None

    def drop(self, name: str) -> None:
        """Delete a chunk, if the disk lets it."""
        with suppress(OSError):
            (self._folder / name).unlink()

    def put(self, name: str, data: bytes) -> None:
        """Keep a chunk, if it is not larger than the bound.

        Raises:
            OSError: If the disk does not take it.
        """
        if len(data) > self._limit * _KEPT:
            return
        temporary = self._folder / f"{name}-{uuid.uuid4().hex}{_TEMPORARY}"
        try:
            with self._reserved(temporary, len(data)) as file:
                _write(file, data)
                os.fsync(file)
                with self._locked():  # whoever counts what is there must see it under one of its names
                    temporary.rename(self._folder / name)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    @contextmanager
    def _reserved(self, path: Path, size: int) -> Iterator[int]:
        """A new temporary file of a size, for which room was made; locked, which says that its writer lives."""
        with self._locked() as used:
            text = os.pread(used, 32, 0)
            total = int(text) if text.isdigit() else self._limit + 1
            if total + size > self._limit:
                total = self._shrink(int(self._limit * _KEPT) - size)
            os.pwrite(used, b"%032d" % (total + size), 0)
            file = _lock(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                os.posix_fallocate(file, 0, size)
            except OSError:
                os.close(file)
                raise
        try:
            yield file
        finally:
            os.close(file)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """One process or thread at a time. The file holds the bytes taken: at least those that there are."""
        file = _lock(self._folder / ".used", os.O_RDWR | os.O_CREAT)
        try:
            yield file
        finally:
            os.close(file)

    def _shrink(self, target: int) -> int:
        """Delete what killed processes left, then the least recently used, down to a target; the bytes that remain."""
        stats = sorted(self._stats(), key=lambda found: (found[0].suffix != _TEMPORARY, found[1].st_mtime_ns))
        total = sum(stat.st_size for _, stat in stats)
        for path, stat in stats:
            if _is_abandoned(path) if path.suffix == _TEMPORARY else total > target:
                path.unlink(missing_ok=True)
                total -= stat.st_size
        return total

    def _stats(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # a writer gave up
                if not path.name.startswith("."):
                    yield path, path.stat()


def _write(file: int, data: bytes) -> None:
    view, place = memoryview(data), 0
    while place < len(view):
        place += os.pwrite(file, view[place:], place)


def _lock(path: Path, flags: int) -> int:
    """A descriptor with the file's lock; both go with the process."""
    file = os.open(path, flags | os.O_CLOEXEC, 0o666)
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _is_abandoned(path: Path) -> bool:
    """Whether nobody holds a temporary file's lock; its writer took it before anybody could look."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except OSError:
        return False


def _numbers(start: int, stop: int) -> range:
    """Of the chunks that a range lies in."""
    return range(start // _CHUNK_BYTES, -(-stop // _CHUNK_BYTES))


class CachedStorage:
    """A remote storage, ``source``, whose ranges are kept on the local disk. A disk that refuses is done without."""

    def __init__(self, storage: Storage, folder: Path, limit_bytes: int) -> None:
        self.url = storage.url
        self.source, self._folder, self._limit = storage, folder, limit_bytes
        self._chunks = ChunkStore(folder, limit_bytes)
        self._stats: dict[str, FileStat] = {}
        self._is_refused = False

    def __reduce__(self) -> tuple[type["CachedStorage"], tuple[Storage, Path, int]]:
        return CachedStorage, (self.source, self._folder, self._limit)

    def names(self, folder: str) -> list[str]:
        """See :meth:`Storage.names`."""
        return self.source.names(folder)

    def listing(self, folder: str) -> dict[str, FileStat]:
        """See :meth:`Storage.listing`."""
        return self.source.listing(folder)

    def stat(self, path: str) -> FileStat:
        """See :meth:`Storage.stat`; ranges read from now on are of this version."""
        stat = self._stats[path] = self.source.stat(path)
        return stat

    def read(self, path: str) -> bytes:
        """See :meth:`Storage.read`; not kept."""
        return self.source.read(path)

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See :meth:`Storage.read_range`."""
        stat = self._stats.get(path) or self.stat(path)
        if not stat.version or start >= stop or stop > stat.size:  # not to be told from its next version, or an error
            return self.source.read_range(path, start, stop)
        found = [(number, self._kept(path, stat, number, (start, stop))) for number in _numbers(start, stop)]
        parts: list[bytes] = []
        for is_missing, group in groupby(found, lambda item: item[1] is None):
            some = list(group)
            parts += [self._fetched(path, stat, (some[0][0], some[-1][0] + 1), (start, stop))] if is_missing else []
            parts += [data for _, data in some if data is not None]
        return b"".join(parts)

    def drop(self, path: str, start: int, stop: int) -> None:
        """Keep nothing of a range: its bytes turned out to be wrong. ``source`` has it still."""
        if stat := self._stats.get(path):
            for number in _numbers(start, stop):
                self._chunks.drop(self._name(path, stat, number))

    def _kept(self, path: str, stat: FileStat, number: int, wanted: tuple[int, int]) -> bytes | None:
        """What is wanted of a chunk, if it is here."""
        first = number * _CHUNK_BYTES
        last = min(first + _CHUNK_BYTES, stat.size)
        start, stop = max(wanted[0], first), min(wanted[1], last)
        return self._chunks.get(self._name(path, stat, number), start - first, stop - first, last - first)

    def _fetched(self, path: str, stat: FileStat, numbers: tuple[int, int], wanted: tuple[int, int]) -> bytes:
        """What is wanted of neighbouring chunks, read in one piece and kept."""
        first, last = numbers[0] * _CHUNK_BYTES, min(numbers[1] * _CHUNK_BYTES, stat.size)
        data = self.source.read_range(path, first, last)
        for number in range(*numbers):
            place = number * _CHUNK_BYTES - first
            self._keep(self._name(path, stat, number), data[place : place + _CHUNK_BYTES])
        return data[max(wanted[0] - first, 0) : wanted[1] - first]

    def _keep(self, name: str, data: bytes) -> None:
        if self._is_refused:
            return
        try:
            self._chunks.put(name, data)
        except OSError as error:
            self._is_refused = True
            _log.warning("%s: keeps no more of %s (%s); it is read from there", self._folder, self.url, error)

    def _name(self, path: str, stat: FileStat, number: int) -> str:
        parts = (self.url, path, str(stat.size), stat.version, str(_CHUNK_BYTES), str(number))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:40]

    def close(self) -> None:
        """See :meth:`Storage.close`."""
        self.source.close()
