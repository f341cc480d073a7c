"""A folder of images, each with a caption in a .txt of the same name, or all captions in one JSONL file.

Rows are the images below the folder and the files the JSONL names, sorted by name. Hidden files and folders are
skipped, symlinked folders are not followed, and files whose symlink leads out of the folder fail as ``unsafe_path``.
Folder and JSONL may lie in an object store.
"""

import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from manifests import dag
from manifests.files import AnyPath
from manifests.record import Row
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.paths import FileError, absolute
from pipeline.sources.rows import caption_text, changed, fail, load_picture, make_row, reasons
from pipeline.sources.trees import Tree, open_tree

IMAGE_SUFFIXES = frozenset({".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
"""What makes a file an image, in any case."""


class Folder(Source):
    """Images of a folder with their captions; its one part is the folder."""

    reasons = reasons("bad_text", "missing_file", "unsafe_path")

    def __init__(self, config: dag.FolderSource) -> None:
        self._root = open_tree(config.path)
        self._jsonl = None if config.captions is None else absolute(config.captions)
        listing = _scan(self._root, self._jsonl)
        if not listing.files:
            raise SourceError(f"{config.path}: no images in it; those are {', '.join(sorted(IMAGE_SUFFIXES))}")
        self.parts = (Part(config.path, len(listing.files), listing.digest),)
        has_captions = any(file.caption_digest for file in listing.files)
        self._groups = config.groups
        said = {"alt_text": has_captions, "group": config.groups}
        self.gives = frozenset(
            {"source_id", "original", "sha256"} | {field for field, is_said in said.items() if is_said}
        )

    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows with their files' bytes; failed as ``missing_file``, ``unsafe_path`` or ``bad_text``.

        Raises:
            SourceError: If a file or its caption is no longer what was planned.
        """
        listing = _scan_once(self._root, self._jsonl, self.parts[0].digest)
        return [self._row(listing, number) for number in range(unit.start, unit.stop)]

    def _row(self, listing: "_Listing", number: int) -> Row:
        file = listing.files[number]
        if _caption_digest(self._root, listing.captions, file.name) != file.caption_digest:
            raise changed(self._root.where / file.name)
        try:
            caption = _caption(self._root, listing.captions, file.name)
        except FileError as error:
            return fail(make_row(self.parts[0], number, {"source_id": file.name}), error.reason, str(error))
        group = posixpath.dirname(file.name) or None if self._groups else None
        row = make_row(self.parts[0], number, {"source_id": file.name, "alt_text": caption, "group": group})
        return load_picture(row, self._root, file.name, file.size)


@dataclass(frozen=True, slots=True)
class _Planned:
    """A row's file as planned: bytes, -1 if it cannot be read; the digest of its caption, empty if it has none."""

    name: str
    size: int
    caption_digest: str


@dataclass(frozen=True, slots=True)
class _Listing:
    """The files of all rows in order, what the JSONL says of them, and the digest of all that."""

    files: tuple[_Planned, ...]
    captions: Mapping[str, str | None] | None
    digest: str


def _scan(root: Tree, jsonl: AnyPath | None) -> _Listing:
    captions = None if jsonl is None else dict(_parse_captions(_read_file(jsonl), jsonl))
    names = sorted({*_image_names(root), *(captions or ())})
    with ThreadPoolExecutor(root.readers) as pool:
        digests = pool.map(lambda name: _caption_digest(root, captions, name), names)
        files = tuple(_Planned(name, root.size(name), digest) for name, digest in zip(names, digests, strict=True))
    digest = hashlib.sha256()
    for file in files:
        line = f"{file.name}\0{file.size}\0{file.caption_digest}\n"
        digest.update(line.encode("utf-8", "surrogatepass"))
    return _Listing(files, captions, digest.hexdigest())


@lru_cache(maxsize=1)
def _scan_once(root: Tree, jsonl: AnyPath | None, digest: str) -> _Listing:
    """The listing that was planned, kept for the next unit."""
    listing = _scan(root, jsonl)
    if listing.digest != digest:
        raise changed(root.where)
    return listing


def _image_names(root: Tree) -> Iterator[str]:
    return (name for name in root.names() if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES)


def _read_file(path: AnyPath) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}; give a JSONL file of captions") from None


def _parse_captions(data: bytes, path: AnyPath) -> Iterator[tuple[str, str | None]]:
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


def _caption(root: Tree, captions: Mapping[str, str | None] | None, name: str) -> str | bytes | None:
    """The caption of a row, ``None`` if there is none. Raises ``FileError`` if it cannot be read."""
    if captions is not None:
        return captions.get(name)
    text = str(PurePosixPath(name).with_suffix(".txt"))
    return caption_text(root.read(text)) if root.has(text) else None


def _caption_digest(root: Tree, captions: Mapping[str, str | None] | None, name: str) -> str:
    """Digest of a row's caption; empty if it has none."""
    try:
        caption = _caption(root, captions, name)
    except FileError:
        return ""
    data = caption.encode("utf-8", "surrogatepass") if isinstance(caption, str) else caption
    return "" if data is None else hashlib.sha256(data).hexdigest()
