"""Folders whose files are rows' pictures and captions: on a disk, or below a URL of an object store."""

import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from manifests.files import AnyPath
from manifests.store import LISTING_S, StorePath, steadily
from pipeline.sources.base import SourceError
from pipeline.sources.columns import is_unicode
from pipeline.sources.paths import FileError, UnsafePathError, absolute, folder, inside, read_inside, size_inside


class Tree(Protocol):
    """A folder and all below it; small when pickled. ``readers`` is how many files are best read at once."""

    readers: int

    def __hash__(self) -> int:
        """Trees are keys of caches."""

    @property
    def where(self) -> AnyPath:
        """The folder."""

    def names(self) -> Iterator[str]:
        """All files but hidden ones and those in hidden folders, in no order.

        Raises:
            SourceError: If the folder cannot be listed.
        """

    def size(self, name: str) -> int:
        """Bytes of a file; -1 if :meth:`read` would not read it."""

    def has(self, name: str) -> bool:
        """Whether there is something of that name. Raises ``UnsafePathError`` if that leads out of the folder."""

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            FileError: If it is not there, or its name leads out of the folder.
            SourceError: If the store cannot be reached.
        """


def open_tree(where: str) -> Tree:
    """The folder at a path or URL.

    Raises:
        SourceError: If there is none.
    """
    path = absolute(where)
    if isinstance(path, Path):
        return DiskTree(folder(str(path)))
    try:
        is_there = path.exists()
    except OSError as error:
        raise SourceError(f"{where}: cannot be listed: {error}") from None
    if not is_there:
        raise SourceError(f"{where}: no such folder; give the URL below which the images lie")
    return StoreTree(path)


@dataclass(frozen=True)
class DiskTree:
    """A folder on a disk. Symlinked folders are not followed, nor files whose symlink leads out of it."""

    where: Path
    readers = 1

    def names(self) -> Iterator[str]:
        """See :class:`Tree`."""
        for directory, folders, files in os.walk(self.where, onerror=_refuse):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in files:
                if not name.startswith("."):
                    yield posixpath.normpath(posixpath.join(os.path.relpath(directory, self.where), name))

    def size(self, name: str) -> int:
        """See :class:`Tree`."""
        return size_inside(self.where, name)

    def has(self, name: str) -> bool:
        """See :class:`Tree`."""
        return os.path.exists(inside(self.where, name))

    def read(self, name: str) -> bytes:
        """See :class:`Tree`."""
        return read_inside(self.where, name)


@dataclass(frozen=True)
class StoreTree:
    """A folder in an object store, listed once, when something but :meth:`read` is first asked of it."""

    where: StorePath
    readers = 32

    def names(self) -> Iterator[str]:
        """See :class:`Tree`."""
        return (name for name in self._sizes if not any(part.startswith(".") for part in name.split("/")))

    def size(self, name: str) -> int:
        """See :class:`Tree`."""
        try:
            return self._sizes.get(_checked(name), -1)
        except UnsafePathError:
            return -1

    def has(self, name: str) -> bool:
        """See :class:`Tree`."""
        return _checked(name) in self._sizes

    def read(self, name: str) -> bytes:
        """See :class:`Tree`."""
        try:
            return (self.where / _checked(name)).read_bytes()
        except FileNotFoundError:
            raise FileError(f"{name!r} is not there, or no regular file") from None
        except OSError as error:
            raise SourceError(f"{self.where / name}: cannot be read: {error}") from None

    @cached_property
    def _sizes(self) -> Mapping[str, int]:
        try:
            return steadily(self.where.url, _list_all, LISTING_S)
        except OSError as error:
            raise SourceError(f"{self.where}: cannot be listed: {error}") from None

    def __reduce__(self) -> tuple[type["StoreTree"], tuple[StorePath]]:
        return StoreTree, (self.where,)  # without the listing


def _list_all(fs: Any, path: str) -> Mapping[str, int]:
    begin = len(path.rstrip("/")) + 1
    return {name[begin:]: int(info["size"]) for name, info in fs.find(path, detail=True).items()}


def _checked(name: str) -> str:
    if not is_unicode(name) or "\0" in name or "::" in name:  # fsspec takes "::" for a chain of URLs
        raise UnsafePathError(f"{name!r} is no file name")
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise UnsafePathError(f"{name!r} leads out of its folder")
    return name


def _refuse(error: OSError) -> None:
    raise SourceError(f"{error.filename}: cannot be listed: {error.strerror}")
