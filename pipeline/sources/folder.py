"""A folder of images, each with a caption in a .txt of the same name, or all captions in one JSONL file.

Rows are the images below the folder and the files the JSONL names, sorted by name. Hidden files and folders are
skipped, symlinked folders are not followed, and files whose symlink leads out of the folder fail as ``unsafe_path``.
"""

import hashlib
import json
import os
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from manifests import dag
from manifests.record import Row
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.paths import FileError, folder, inside, read_inside, size_inside
from pipeline.sources.rows import caption_text, fail, load_picture, make_row, reasons

IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""What makes a file an image, in any case."""


class Folder(Source):
    """Images of a folder with their captions; its one part is the folder."""

    reasons = reasons("bad_text", "missing_file", "unsafe_path")

    def __init__(self, config: dag.FolderSource) -> None:
        self._root = folder(config.path)
        self._jsonl = os.path.abspath(config.captions) if config.captions is not None else None
        listing = _scan(self._root, self._jsonl)
        if not listing.names:
            raise SourceError(f"{config.path}: no images in it; those are {', '.join(sorted(IMAGE_SUFFIXES))}")
        self._listing_digest = listing.digest
        captions = [_caption_digest(self._root, listing, name) for name in listing.names]
        digest = hashlib.sha256("\n".join([listing.digest, *captions]).encode()).hexdigest()
        self.parts = (Part(config.path, len(listing.names), digest),)
        self.gives = frozenset({"source_id", "original", "sha256"} | ({"alt_text"} if any(captions) else set()))

    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows with their files' bytes; failed as ``missing_file``, ``unsafe_path`` or ``bad_text``."""
        listing = _scan_once(self._root, self._jsonl, self._listing_digest)
        return [self._row(listing, number) for number in range(unit.start, unit.stop)]

    def _row(self, listing: "_Listing", number: int) -> Row:
        name = listing.names[number]
        try:
            caption = _caption(self._root, listing, name)
        except FileError as error:
            return fail(make_row(self.parts[0], number, {"source_id": name}), error.reason, str(error))
        return load_picture(make_row(self.parts[0], number, {"source_id": name, "alt_text": caption}), self._root, name)


@dataclass(frozen=True, slots=True)
class _Listing:
    """The names of all rows in order, what the JSONL says of them, and the digest of names, sizes and JSONL."""

    names: tuple[str, ...]
    captions: Mapping[str, str | None] | None
    digest: str


def _scan(root: Path, jsonl: str | None) -> _Listing:
    digest = hashlib.sha256()
    captions = None
    if jsonl is not None:
        data = _read_file(jsonl)
        digest.update(hashlib.sha256(data).digest())
        captions = dict(_parse_captions(data, jsonl))
    names = tuple(sorted({*_image_names(root), *(captions or ())}))
    for name in names:
        digest.update(f"{name}\0{size_inside(root, name)}\n".encode("utf-8", "surrogatepass"))
    return _Listing(names, captions, digest.hexdigest())


@lru_cache(maxsize=1)
def _scan_once(root: Path, jsonl: str | None, digest: str) -> _Listing:
    """The listing that was planned, kept for the next unit."""
    listing = _scan(root, jsonl)
    if listing.digest != digest:
        raise SourceError(f"{root}: has changed since the run was planned; start a new run")
    return listing


def _image_names(root: Path) -> Iterator[str]:
    for directory, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES:
                yield posixpath.normpath(posixpath.join(os.path.relpath(directory, root), name))


def _refuse(error: OSError) -> None:
    raise SourceError(f"{error.filename}: cannot be listed: {error.strerror}")


def _read_file(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}; give a JSONL file of captions") from None


def _parse_captions(data: bytes, path: str) -> Iterator[tuple[str, str | None]]:
    """File name and caption of each line; bytes that are not UTF-8 become lone surrogates, which rows refuse."""
    seen: dict[str, int] = {}
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            plain = json.loads(line.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}:{number}: not JSON: {error}") from None
        file, caption = (plain.get("file"), plain.get("caption")) if isinstance(plain, dict) else (None, None)
        if not isinstance(file, str) or not isinstance(caption, str | None):
            raise SourceError(f'{path}:{number}: a line is {{"file": TEXT, "caption": TEXT}}, got {line[:80]!r}')
        name = posixpath.normpath(file)
        if name in seen:
            raise SourceError(f"{path}:{number}: {name!r} has a caption already, in line {seen[name]}; keep one")
        seen[name] = number
        yield name, caption


def _caption(root: Path, listing: _Listing, name: str) -> str | bytes | None:
    """The caption of a row, ``None`` if there is none. Raises ``FileError`` if it cannot be read."""
    if listing.captions is not None:
        return listing.captions.get(name)
    text = str(PurePosixPath(name).with_suffix(".txt"))
    return caption_text(read_inside(root, text)) if os.path.exists(inside(root, text)) else None


def _caption_digest(root: Path, listing: _Listing, name: str) -> str:
    """Digest of a row's caption; empty if it has none."""
    try:
        caption = _caption(root, listing, name)
    except FileError:
        return ""
    data = caption.encode("utf-8", "surrogatepass") if isinstance(caption, str) else caption
    return "" if data is None else hashlib.sha256(data).hexdigest()
