"""Where a source's files lie: patterns become files, names stay inside their folder, copies keep their keys apart."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem

from manifests.files import AnyPath, open_path
from manifests.store import LISTING_S, steadily
from pipeline.sources.base import Part, SourceError
from pipeline.sources.columns import is_unicode


class FileError(ValueError):
    """A file that a row cannot have; the message is the same wherever the folder lies."""

    reason = "missing_file"


class UnsafePathError(FileError):
    """A file name that leads out of its folder."""

    reason = "unsafe_path"


@dataclass(frozen=True, slots=True)
class File:
    """A file of a source.

    Attributes:
        name: Its path as the manifest's pattern expanded; stands in records.
        url: Where any worker finds it: an absolute path, or a URL that fsspec opens.
        size: Bytes.
    """

    name: str
    url: str
    size: int

    @property
    def path(self) -> AnyPath:
        """Where it lies."""
        return open_path(self.url)

    def open(self) -> BinaryIO:
        """The file, open for reading bytes."""
        return self.path.open("rb")

    def tail(self, size: int) -> bytes:
        """Its last ``size`` bytes, or all of it."""
        with self.open() as file:
            file.seek(max(0, self.size - size))
            return file.read(min(size, self.size))

    def check_size(self) -> None:
        """Refuse a file that is no longer what was planned.

        Raises:
            SourceError: If it is gone or of another size.
        """
        try:
            size = self.path.stat().st_size
        except OSError as error:
            raise SourceError(f"{self.name}: cannot be read: {error}") from None
        if size != self.size:
            raise SourceError(f"{self.name}: has changed since the run was planned; start a new run")


def expand(patterns: Sequence[str]) -> list[File]:
    """The files that paths and glob patterns mean, each once, sorted by name.

    Raises:
        SourceError: If a pattern matches no file or its storage cannot be reached.
    """
    files: dict[str, File] = {}
    for pattern in patterns:
        for file in _expand(pattern):
            files.setdefault(file.url, file)
    return sorted(files.values(), key=lambda file: file.name)


def _expand(pattern: str) -> list[File]:
    try:
        fs, found = steadily(pattern, _find, LISTING_S)
    except (ImportError, OSError, ValueError, TypeError) as error:
        raise SourceError(f"{pattern}: cannot be listed: {error}") from None
    files = [_file(fs, path, pattern, info["size"]) for path, info in found.items() if info["type"] == "file"]
    if not files:
        folder = next((path for path, info in found.items() if info["type"] == "directory"), None)
        such = "data/*.parquet" if folder is None else f"{pattern.rstrip('/')}/*"
        what = "matches no file" if folder is None else "is a folder"
        raise SourceError(f"{pattern}: {what}; give a file, or a pattern of files such as {such}")
    return files


def _find(fs: Any, path: str) -> tuple[Any, dict[str, Any]]:
    return fs, {path: fs.info(path)} if fs.isfile(path) else fs.glob(path, detail=True)


def _file(fs: Any, path: str, pattern: str, size: int) -> File:
    if not isinstance(fs, LocalFileSystem):
        url = fs.unstrip_protocol(path)
        return File(url, url, size)
    is_relative = not (pattern.startswith(("/", "~")) or "://" in pattern)
    name = os.path.relpath(path) if is_relative else path
    if not is_unicode(name):
        raise SourceError(f"{name!r}: the file name is not valid UTF-8; rename it")
    return File(name, path, size)


def distinct(parts: Iterable[Part]) -> tuple[Part, ...]:
    """The parts, no two of which give equal keys: of copies, all but the first mix their name into the digest.

    Raises:
        SourceError: If two parts still collide.
    """
    seen: dict[str, str] = {}
    result = []
    for part in parts:
        if part.key(0) in seen:
            part = replace(part, digest=hashlib.sha256(f"{part.digest}\0{part.name}".encode()).hexdigest())
        if part.key(0) in seen:
            raise SourceError(f"{part.name}: its keys would be those of {seen[part.key(0)]}; rename one of the two")
        seen[part.key(0)] = part.name
        result.append(part)
    return tuple(result)


def absolute(where: str) -> AnyPath:
    """A path or a URL as any worker finds it.

    Raises:
        SourceError: If nothing here opens such a URL.
    """
    try:
        path = open_path(where)
    except ValueError as error:
        raise SourceError(str(error)) from None
    return path.absolute() if isinstance(path, Path) else path


def folder(path: str) -> Path:
    """An existing folder, absolute and without symlinks.

    Raises:
        SourceError: If it is none.
    """
    if not os.path.isdir(path):
        raise SourceError(f"{path}: no such folder; give the folder of the images, relative to where the command runs")
    return Path(os.path.realpath(path))


def inside(root: Path, name: str) -> Path:
    """The path of ``name`` in ``root``, a folder from :func:`folder`.

    Raises:
        UnsafePathError: If the name is absolute or leads out of the folder, by dots or by symlinks.
    """
    try:
        path = Path(os.path.realpath(root / name))
    except ValueError:  # NUL bytes, or characters no file name has
        raise UnsafePathError(f"{name!r} is no file name") from None
    if os.path.isabs(name) or ".." in Path(name).parts or not path.is_relative_to(root):
        raise UnsafePathError(f"{name!r} leads out of its folder")
    return path


def read_inside(root: Path, name: str) -> bytes:
    """The bytes of a regular file in ``root``.

    Raises:
        FileError: If :func:`inside` refuses it, if it is not there, or if it cannot be read.
    """
    path = inside(root, name)
    if not os.path.isfile(path):  # reading a pipe would wait for ever
        raise FileError(f"{name!r} is not there, or no regular file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(f"{name!r} cannot be read: {error.strerror}") from None


def size_inside(root: Path, name: str) -> int:
    """Bytes of a file in ``root``; -1 if :func:`read_inside` would not read it."""
    try:
        path = inside(root, name)
    except FileError:
        return -1
    return path.stat().st_size if os.path.isfile(path) else -1
