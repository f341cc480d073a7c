"""The bytes of a data set: one root, on a local disk or behind any URL that fsspec opens."""

import asyncio
import errno
import logging
import os
import threading
from collections.abc import Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn, Protocol

import tenacity
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from manifests.transient import client_errors, is_transient

_log = logging.getLogger(__name__)
_SILENT_S = 5.0
_MAX_OPEN_FILES = 128
_VERSION_FIELDS = (
    *("ETag", "etag", "md5Hash", "Content-MD5", "content_md5", "generation", "mtime"),
    *("LastModified", "Last-Modified", "last_modified", "updated", "created"),
)
"""What file systems call the things in ``info`` that change when a file does."""


class ShortReadError(EOFError):
    """The file ends before the range does: a fact about the bytes, which no retry mends."""

    def __init__(self, path: str, start: int, stop: int, got: int) -> None:
        super().__init__(path, start, stop, got)
        self.path, self.start, self.stop, self.got = path, start, stop, got

    def __str__(self) -> str:
        return f"{self.path}: bytes {self.start} to {self.stop} asked for, but it ends {self.got} bytes into them"


@dataclass(frozen=True, slots=True)
class FileStat:
    """Bytes in a file, and a text that changes when they do (as far as the storage tells)."""

    size: int
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long remote reads are tried again.

    Attributes:
        deadline_s: After this long no further attempt is begun.
        attempt_timeout_s: One attempt may take this long (on file systems that are asynchronous in fsspec: S3, GCS,
            Azure, HTTP; others have their own limits).
        first_wait_s: The first wait is drawn from 0 to this; each further one from twice the span.
        max_wait_s: The longest wait.
    """

    deadline_s: float = 300.0
    attempt_timeout_s: float = 60.0
    first_wait_s: float = 0.5
    max_wait_s: float = 30.0


class Storage(Protocol):
    """Files below one root. Safe to use from several threads; pickled, it opens itself anew.

    ``path`` is relative to the root, with slashes. What cannot be read raises :class:`OSError` (also
    :class:`FileNotFoundError` and :class:`PermissionError`) that names the file and what to do.
    """

    @property
    def url(self) -> str:
        """The root."""

    def names(self, folder: str) -> list[str]:
        """Names of what lies in a folder (not below), sorted; by one listing that is never cached."""

    def listing(self, folder: str) -> dict[str, FileStat]:
        """Files in a folder (not below) by name, with size and version; by one listing that is never cached."""

    def stat(self, path: str) -> FileStat:
        """Size and version of a file."""

    def read(self, path: str) -> bytes:
        """A whole file."""

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """The bytes of ``[start, stop)``.

        Raises:
            ShortReadError: If the file ends before ``stop``.
        """

    def close(self) -> None:
        """Let go of files and connections; reads that still wait raise :class:`CancelledError`."""


def open_storage(url: str, patience: Patience | None = None, options: Mapping[str, Any] | None = None) -> Storage:
    """The storage at a local path or a URL; ``options`` are fsspec's for its file system (credentials, endpoint).

    Raises:
        ImportError: If the URL's protocol needs a package that is not installed.
        ValueError: If fsspec does not know the protocol.
    """
    if "://" not in url and "::" not in url:
        return LocalStorage(url)
    fs, root = url_to_fs(url, use_listings_cache=False, **(options or {}))
    if isinstance(fs, LocalFileSystem):
        return LocalStorage(root)
    return RemoteStorage(url.rstrip("/"), patience or Patience(), dict(options or {}))


class _Descriptor:
    """An open file, closed with its last user: the cache may drop it while another thread reads."""

    __slots__ = ("number",)

    def __init__(self, path: str) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


class LocalStorage:
    """A folder. Reads are ``pread`` on descriptors kept open, so threads share no position."""

    def __init__(self, root: str) -> None:
        self.url = folder = os.path.abspath(root)
        self._open = lru_cache(_MAX_OPEN_FILES)(lambda path: _Descriptor(os.path.join(folder, path)))

    def __reduce__(self) -> tuple[type["LocalStorage"], tuple[str]]:
        return LocalStorage, (self.url,)

    def names(self, folder: str) -> list[str]:
        """See :meth:`Storage.names`."""
        try:
            return sorted(os.listdir(os.path.join(self.url, folder)))
        except OSError as error:
            _refuse(os.path.join(self.url, folder), error)

    def listing(self, folder: str) -> dict[str, FileStat]:
        """See :meth:`Storage.listing`."""
        try:
            with os.scandir(os.path.join(self.url, folder)) as entries:
                return {entry.name: _file_stat(entry.stat()) for entry in entries if entry.is_file()}
        except OSError as error:
            _refuse(os.path.join(self.url, folder), error)

    def stat(self, path: str) -> FileStat:
        """See :meth:`Storage.stat`."""
        try:
            return _file_stat(os.stat(os.path.join(self.url, path)))
        except OSError as error:
            _refuse(os.path.join(self.url, path), error)

    def read(self, path: str) -> bytes:
        """See :meth:`Storage.read`."""
        try:
            return Path(self.url, path).read_bytes()
        except OSError as error:
            _refuse(os.path.join(self.url, path), error)

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See :meth:`Storage.read_range`."""
        try:
            file = self._open(path)  # held: else another thread's opening could close it before the read
            data = os.pread(file.number, stop - start, start)
            return data if len(data) == stop - start else self._longer(path, start, stop, data)
        except OSError as error:
            _refuse(os.path.join(self.url, path), error)

    def _longer(self, path: str, start: int, stop: int, data: bytes) -> bytes:
        """The range from its beginning on; one call gives 2 GiB at most."""
        file = self._open(path)
        while len(data) < stop - start:
            more = os.pread(file.number, stop - start - len(data), start + len(data))
            if not more:
                raise ShortReadError(path, start, stop, len(data))
            data += more
        return data

    def expect(self, path: str, start: int, stop: int) -> None:
        """Tell the system that a range will be read soon, so that it reads ahead; never fails."""
        try:
            file = self._open(path)
            os.posix_fadvise(file.number, start, stop - start, os.POSIX_FADV_WILLNEED)
        except OSError:
            return  # the read itself will say what is wrong

    def close(self) -> None:
        """See :meth:`Storage.close`."""
        self._open.cache_clear()


def _file_stat(stat: os.stat_result) -> FileStat:
    return FileStat(stat.st_size, f"{stat.st_ino}-{stat.st_mtime_ns}")


class RemoteStorage:
    """A root behind fsspec, with retries."""

    def __init__(self, url: str, patience: Patience, options: Mapping[str, Any]) -> None:
        self.url = url
        self._patience, self._options = patience, options
        self._fs, self._root = url_to_fs(url, use_listings_cache=False, **options)
        self._closed = threading.Event()
        self._running: set[Future[Any]] = set()
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(is_transient),
            wait=tenacity.wait_random_exponential(multiplier=patience.first_wait_s, max=patience.max_wait_s),
            stop=tenacity.stop_before_delay(patience.deadline_s),
            sleep=tenacity.sleep_using_event(self._closed),
            before_sleep=self._tell,
            reraise=True,
        )
        self._has_told = False

    def __reduce__(self) -> tuple[type["RemoteStorage"], tuple[str, Patience, Mapping[str, Any]]]:
        return RemoteStorage, (self.url, self._patience, self._options)

    def names(self, folder: str) -> list[str]:
        """See :meth:`Storage.names`."""
        found: list[str] = self._call("ls", folder, detail=False)
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def stat(self, path: str) -> FileStat:
        """See :meth:`Storage.stat`."""
        info: Mapping[str, Any] = self._call("info", path)
        if info.get("size") is None:
            raise OSError(f"{self.url}/{path}: its server does not say how long it is; serve it from one that does")
        return _remote_stat(info)

    def listing(self, folder: str) -> dict[str, FileStat]:
        """See :meth:`Storage.listing`."""
        found: list[Mapping[str, Any]] = self._call("ls", folder, detail=True)
        files = (info for info in found if info.get("type") != "directory")
        return {info["name"].rpartition("/")[2]: _remote_stat(info) for info in files}

    def read(self, path: str) -> bytes:
        """See :meth:`Storage.read`."""
        data: bytes = self._call("cat_file", path)
        return data

    def read_range(self, path: str, start: int, stop: int) -> bytes:
        """See :meth:`Storage.read_range`."""
        if start == stop:
            return b""
        try:
            data: bytes = self._call("cat_file", path, start=start, end=stop)
        except (FileNotFoundError, PermissionError):
            raise
        except OSError as error:  # some stores refuse a range that begins behind the end
            if error.__cause__ is None or is_transient(error.__cause__):
                raise
            self._check_end(path, start, stop)
            raise
        if len(data) != stop - start:
            self._check_end(path, start, stop)
            raise OSError(
                f"{self.url}/{path}: {len(data)} bytes came where {stop - start} were asked for; its server "
                "must support range requests (copy the data to one that does, or to a local disk)"
            )
        return data

    def _check_end(self, path: str, start: int, stop: int) -> None:
        size = self.stat(path).size
        if size < stop:
            raise ShortReadError(path, start, stop, max(0, size - start))

    def _call(self, method: str, path: str, **options: object) -> Any:
        try:
            return self._retrying(self._attempt, method, f"{self._root}/{path}".rstrip("/"), **options)
        except client_errors() as error:
            _refuse(f"{self.url}/{path}", error, self._patience.deadline_s if is_transient(error) else 0.0)

    def _tell(self, state: tenacity.RetryCallState) -> None:
        """Say once what is waited for, when that takes longer than a hiccup."""
        if self._has_told or not state.outcome or (state.seconds_since_start or 0) < _SILENT_S:
            return
        self._has_told = True
        error, deadline_s = state.outcome.exception(), self._patience.deadline_s
        _log.warning("%s: cannot be read now (%r); tried again for up to %g s", self.url, error, deadline_s)

    def _attempt(self, method: str, path: str, **options: object) -> Any:
        if self._closed.is_set():
            raise CancelledError(f"{self.url} was closed")
        if not self._fs.async_impl:
            return getattr(self._fs, method)(path, **options)
        coroutine = getattr(self._fs, f"_{method}")(path, **options)
        future = asyncio.run_coroutine_threadsafe(coroutine, self._fs.loop)
        self._running.add(future)
        try:
            return future.result(self._patience.attempt_timeout_s)
        finally:
            future.cancel()
            self._running.discard(future)

    def close(self) -> None:
        """See :meth:`Storage.close`."""
        self._closed.set()
        for future in self._running.copy():
            future.cancel()


def _remote_stat(info: Mapping[str, Any]) -> FileStat:
    version = " ".join(f"{name}={info[name]}" for name in _VERSION_FIELDS if name in info)
    return FileStat(info.get("size") or 0, version)


def _refuse(url: str, error: BaseException, retried_s: float = 0.0) -> NoReturn:
    kinds: tuple[type[OSError], ...] = (FileNotFoundError, NotADirectoryError, PermissionError)
    kind = next((kind for kind in kinds if isinstance(error, kind)), OSError)
    remedy = {
        FileNotFoundError: "check the path; a data set must stay where it is while a run reads it",
        NotADirectoryError: "give the folder that holds the shards",
        PermissionError: "check the credentials and that they may read it",
    }.get(kind, "check the disk or network and the store's state, then resume")
    retried = f" (after retries for {retried_s:g} s)" if retried_s else ""
    raise kind(f"{url}: cannot be read: {_said(error)}{retried}; {remedy}") from error


def _said(error: BaseException) -> str:
    """What an error says: the system's words, where it has them."""
    number = errno.ENOENT if isinstance(error, FileNotFoundError) else getattr(error, "errno", None)
    return os.strerror(number) if isinstance(number, int) else repr(error)
