"""Files that are there whole or not at all, on a disk or in an object store.

On a disk a file is written beside its place and renamed. A store has no rename, but its objects appear whole: they are
made up in an anonymous temporary file and uploaded.
"""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeAlias

from fsspec.core import url_to_fs

from manifests.store import StorePath, read_small

AnyPath: TypeAlias = Path | StorePath
"""A path on a disk or in an object store; of the methods of ``Path`` only those that ``StorePath`` has."""

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def open_path(where: str | AnyPath) -> AnyPath:
    """The path that a text means: a URL of a store (``s3://…``), a ``file://`` URL, or a plain path.

    Raises:
        ValueError: If nothing here opens such a URL.
    """
    if not isinstance(where, str):
        return where
    protocol, is_url, rest = where.partition("://")
    if not is_url:
        return Path(where)
    if protocol in ("file", "local"):
        return Path(rest)
    try:
        _, inside = url_to_fs(where, use_listings_cache=False)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{where}: cannot be opened: {error}") from None
    if not inside.strip("/"):
        raise ValueError(f"{where}: names no bucket")
    return StorePath(where.rstrip("/"))


def write_atomically(path: AnyPath, data: bytes, may_replace: Callable[[], None] | None = None) -> None:
    """Write a whole file as :func:`atomic_file` does."""
    with atomic_file(path, may_replace) as file:
        file.write(data)


@contextmanager
def atomic_file(path: AnyPath, may_replace: Callable[[], None] | None = None) -> Iterator[BinaryIO]:
    """A file to write (and read back) that gets its name only when whole, also after a crash or a power cut.

    Two writers of one path cannot mix their bytes.

    Args:
        path: Where it is to lie.
        may_replace: Called before a file that is there already gives way; raises to keep it. Without it, it gives way.
    """
    if isinstance(path, StorePath):
        with tempfile.TemporaryFile() as file:
            yield file
            file.flush()
            file.seek(0)
            _upload(path, f"/dev/fd/{file.fileno()}", may_replace)
    else:
        with _beside(path, Path.replace, may_replace) as file:
            yield file


def create(path: AnyPath, data: bytes) -> None:
    """Write a whole file that is not there yet; of several who try, one succeeds.

    Raises:
        FileExistsError: If it is there. In a store also if an answer got lost and it is this one: compare.
    """
    if isinstance(path, StorePath):
        path.create(data)
    else:
        with _beside(path, _link) as file:
            file.write(data)


@contextmanager
def local_copy(path: AnyPath) -> Iterator[BinaryIO]:
    """The file, open to be read over and over; one in a store is fetched once, into an anonymous temporary file."""
    with path.open("rb") as file:
        if isinstance(path, Path):
            yield file
        else:
            with tempfile.TemporaryFile() as copy:
                shutil.copyfileobj(file, copy, 8 << 20)
                copy.seek(0)
                yield copy


def read_files(paths: Sequence[AnyPath]) -> Iterator[bytes]:
    """The contents of many small files, in order; of a store many at a time."""
    in_store = [path for path in paths if isinstance(path, StorePath)]
    yield from read_small(in_store) if in_store else (path.read_bytes() for path in paths)


def sync_folder(folder: Path) -> None:
    """See that what a folder lists outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _upload(path: StorePath, file: str, may_replace: Callable[[], None] | None) -> None:
    """Upload a file. Nothing else that was written there meanwhile is lost unasked."""
    if may_replace is None:
        path.upload(file, "overwrite")
        return
    for is_last in (False, False, False, True):
        try:
            path.upload(file, "create")
            return
        except FileExistsError:  # another's, or our own whose answer got lost
            if is_last:
                raise
            may_replace()
            path.unlink(missing_ok=True)


@contextmanager
def _beside(
    path: Path, finish: Callable[[Path, Path], object], may_replace: Callable[[], None] | None = None
) -> Iterator[BinaryIO]:
    """A temporary file beside a path, under a name of its own, which ``finish`` gives the path's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if may_replace is not None and path.exists():
            may_replace()
        finish(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def _link(temporary: Path, path: Path) -> None:
    """Give a file a second name that is not taken."""
    try:
        path.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))  # no links here: take the name, then fill it
        temporary.replace(path)
