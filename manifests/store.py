"""A path in an object store, with those methods of ``pathlib.Path`` that Inlay uses; every call is tried again.

universal_pathlib has the rest of them, but takes half a millisecond to join two names, asks whether things are there
before it removes or lists them, and neither tries again nor writes on a condition.
"""

import fnmatch
import inspect
import io
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Literal, TypeVar

import tenacity
from fsspec.core import url_to_fs

from manifests.transient import client_errors, is_refusal, is_transient

_PATIENCE_S = 120.0
"""After this long no call is tried again, nor goes on: the stores' own clients try some times within each of ours."""

LISTING_S = 3600.0
"""More time for a listing, which takes a request for each thousand objects."""

_SLOWEST = 256 << 10
"""Bytes a second of the slowest upload that is waited for."""

_FIRST_WAIT_S, _MAX_WAIT_S = 0.2, 20.0
_PIECE = 8 << 20
"""Bytes asked for at once of what is read as a whole."""

_BUFFER = 1 << 20
"""Bytes read ahead of an open file; tar headers and Parquet footers are read in small bits."""

_PART = 32 << 20
"""Bytes of a part of an upload. What is smaller than two is uploaded in one request."""

_LEAST_S = 1.0
"""Seconds that a call has at least; to fsspec, 0 means any time."""

_BATCH = 256
_CONFLICTS = ("PreconditionFailed", "412")
_NO_BUCKET = "the store has no such bucket; create it, or correct the URL or the endpoint"

T = TypeVar("T")

logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it logs the stack of what it raises


@dataclass(frozen=True, slots=True)
class StoreStat:
    """Size in bytes, and when the object was written, in seconds of the store's clock."""

    st_size: int
    st_mtime: float


@dataclass(frozen=True, slots=True, order=True)
class StorePath:
    """A URL that fsspec opens, without slash at its end. Folders are there as soon as something is in them.

    What fails raises ``OSError`` (also ``FileNotFoundError``, ``FileExistsError``, ``PermissionError``) with a remedy.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "StorePath":
        return StorePath(f"{self.url}/{name}")

    @property
    def name(self) -> str:
        """What follows the last slash."""
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        """The name without its last suffix."""
        return PurePosixPath(self.name).stem

    @property
    def parent(self) -> "StorePath":
        """The folder it is in."""
        return StorePath(self.url.rpartition("/")[0])

    def with_name(self, name: str) -> "StorePath":
        """Its neighbour of that name."""
        return self.parent / name

    def exists(self) -> bool:
        """Whether there is such an object, or something below it."""
        return steadily(self.url, lambda fs, path: bool(fs.exists(path)))

    def is_dir(self) -> bool:
        """Whether something lies below it."""
        return any(True for _ in self.iterdir())

    def stat(self) -> StoreStat:
        """Size and time of an object. Raises ``FileNotFoundError`` also for a folder."""
        return StoreStat(self._size(), steadily(self.url, _modified).timestamp())

    def _size(self) -> int:
        info = steadily(self.url, lambda fs, path: fs.info(path))
        if info["type"] != "file":
            raise FileNotFoundError(f"{self}: is a folder")
        return int(info["size"])

    def iterdir(self) -> Iterator["StorePath"]:
        """What lies in the folder, in order; nothing if there is none. Never from a cache."""
        try:
            found = steadily(self.url, _list, LISTING_S)
        except FileNotFoundError:
            return
        yield from (self / name for name in found)

    def glob(self, pattern: str) -> Iterator["StorePath"]:
        """What lies in the folder and is called so."""
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def read_range(self, start: int, stop: int) -> bytes:
        """The bytes of ``[start, stop)``, or fewer where the object ends; one request."""
        try:
            return steadily(self.url, lambda fs, path: bytes(fs.cat_file(path, start=start, end=stop)))
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:  # stores refuse a range that begins behind the end
            if not is_transient(error.__cause__ or error) and self._size() <= start:
                return b""
            raise

    def read_bytes(self) -> bytes:
        """The whole object; a small one in one request."""
        parts = [self.read_range(0, _PIECE)]
        while len(parts[-1]) == _PIECE:
            parts.append(self.read_range(len(parts) * _PIECE, (len(parts) + 1) * _PIECE))
        return b"".join(parts)

    def read_text(self, encoding: str = "utf-8") -> str:
        """The whole object as text."""
        return self.read_bytes().decode(encoding)

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """The object, to read from any place; what has its name while it is read must not change."""
        return io.BufferedReader(_Reader(self, self._size()), _BUFFER)

    def write_bytes(self, data: bytes) -> None:
        """Write the object, whole or not at all, over what was there."""
        _written(self.url, lambda fs, path: fs.pipe_file(path, data))

    def create(self, data: bytes) -> None:
        """Write an object that is not there yet. Raises ``FileExistsError`` if it is, also by an earlier try."""
        _written(self.url, lambda fs, path: fs.pipe_file(path, data, mode="create"))

    def upload(self, file: str, mode: Literal["create", "overwrite"]) -> None:
        """Write the object from a local file, in parts if it is large; whole or not at all, no part is left over."""
        more_s = os.stat(file).st_size / _SLOWEST
        _written(self.url, lambda fs, path: fs.put_file(file, path, mode=mode, **_upload_options(fs)), more_s)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the object. Stores do not say whether it was there."""
        try:
            steadily(self.url, lambda fs, path: fs.rm_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: stores have no folders."""

    def abort_uploads(self) -> None:
        """End the uploads below it that a killed process left half-done. Only S3 keeps such; others forget them."""
        steadily(self.url, lambda fs, path: _abort_uploads(fs, path) if "s3" in fs.protocol else None)


class _Reader(io.RawIOBase):
    """An object as an open file."""

    def __init__(self, path: StorePath, size: int) -> None:
        self.name = str(path)
        self._path, self._size, self._place = path, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence])
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any) -> int:
        stop = min(self._place + len(buffer), self._size)
        if stop <= self._place:
            return 0
        data = self._path.read_range(self._place, stop)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def read_small(paths: Sequence[StorePath]) -> Iterator[bytes]:
    """Many small objects of one store, in order, many at a time."""
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        read = steadily(batch[0].url, partial(_read_batch, batch))
        for path, data in zip(batch, read, strict=True):
            yield data if isinstance(data, bytes) and len(data) < _PIECE else path.read_bytes()


def _read_batch(paths: Sequence[StorePath], fs: Any, first: str) -> Sequence[bytes | Exception]:
    found: Sequence[bytes | Exception] = fs.cat_ranges([fs._strip_protocol(path.url) for path in paths], 0, _PIECE)
    return found


def _modified(fs: Any, path: str) -> datetime:
    written: datetime = fs.info(path).get("LastModified") or fs.modified(path)
    return written


def _list(fs: Any, path: str) -> list[str]:
    """Names of what lies in a folder. Of an object's path stores list the object itself."""
    found = {name.rstrip("/") for name in fs.ls(path, detail=False)} - {path.rstrip("/")}
    return sorted(name.rpartition("/")[2] for name in found)


def _upload_options(fs: Any) -> dict[str, int]:
    """How s3fs and gcsfs keep little of a large file in memory; what others take is their own."""
    parts = {"chunksize": _PART} if {"s3", "gs"} & set(fs.protocol) else {}
    return {**parts, "max_concurrency": 2} if "s3" in fs.protocol else parts


def _abort_uploads(fs: Any, path: str) -> None:
    bucket, key, _ = fs.split_path(path)
    try:
        left = fs.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{key}/").get("Uploads", ())
    except PermissionError:  # a right that nothing else needs
        return
    for upload in left:
        fs.abort_mpu(bucket, upload["Key"], upload["UploadId"])


class _Timely:
    """A file system whose calls to a store are given up at a deadline, wherever its client is in its own retries.

    fsspec gives those that are coroutines underneath a ``timeout``.
    """

    def __init__(self, fs: Any, ends_at: float) -> None:
        self._fs = fs
        self._ends_at = ends_at

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._fs, name)
        if not inspect.iscoroutinefunction(getattr(member, "__wrapped__", None)):
            return member
        return partial(member, timeout=max(_LEAST_S, self._ends_at - time.monotonic()))


def _timely(fs: Any, ends_at: float) -> Any:
    """The file system with a deadline, if it asks a store; as it is if not (memory, local)."""
    return _Timely(fs, ends_at) if getattr(fs, "async_impl", False) else fs


def steadily(url: str, call: Callable[[Any, str], T], more_s: float = 0.0) -> T:
    """What the call gives, of the file system and the path in it; tried again while its failure may pass.

    Args:
        url: What is asked for.
        call: Asks for it. What it is given of a store is a file system in all but its type.
        more_s: Seconds beyond those of any call that this one may take, for all the work it is.
    """
    fs, path = url_to_fs(url, use_listings_cache=False)
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT_S, max=_MAX_WAIT_S),
        stop=tenacity.stop_before_delay(_PATIENCE_S),
        reraise=True,
    )
    try:
        return retrying(call, _timely(fs, time.monotonic() + _PATIENCE_S + more_s), path)
    except client_errors() as error:
        raise _explained(url, error) from error


def _written(url: str, call: Callable[[Any, str], object], more_s: float = 0.0) -> None:
    """:func:`steadily` for what writes an object: only its bucket can be missing."""
    try:
        steadily(url, call, more_s)
    except FileNotFoundError as error:
        raise OSError(f"{url}: {_NO_BUCKET}") from error


def _explained(url: str, error: Exception) -> OSError:
    """The error as one of Python's own that names the URL and what to do."""
    code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
    if isinstance(error, FileExistsError) or code in _CONFLICTS:
        return FileExistsError(f"{url}: is there already")
    if code == "NoSuchBucket":
        return OSError(f"{url}: {_NO_BUCKET}")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(f"{url}: is not there")
    if is_refusal(error):
        said = " ".join(str(error).split())
        return PermissionError(
            f"{url}: the store refuses: {said}; check the credentials, and that they may list, read, write and "
            "delete below this URL"
        )
    retried = f" (tried again for {_PATIENCE_S:g} s)" if is_transient(error) else ""
    return OSError(f"{url}: {error!r}{retried}; check the network and the store's state, then run again")
