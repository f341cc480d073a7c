"""Existing WebDataset tars, such as img2dataset writes, as pictures with their words.

A sample is a run of members of one key; the key ends at the first dot of the base name, as in the webdataset library.
A member name seen already begins the next sample. Folders, links, devices, sparse files and names that are absolute or
climb are no members. Nothing is ever unpacked.

Planning reads headers only and seeks over the data. A part's digest is that of its members' headers and the file size.
A tar that ends early or is damaged keeps the samples before that place, but for the last, which may lack members and
fails as ``truncated``; what follows cannot be found, and is no row.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import IO

from manifests import dag
from manifests.record import Row
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.columns import ALIASES, find_columns
from pipeline.sources.paths import File, distinct, expand
from pipeline.sources.rows import caption_text, fail, make_row, reasons, with_original

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp")
"""What makes a member the sample's image; the first that is there."""

_USED_SUFFIXES = frozenset({*IMAGE_SUFFIXES, "txt", "json"})
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_META = re.compile(r"__[^/]*__(?:/|$)")
_BLOCK = 512

_STRIDE = 64
"""Samples between the places that are remembered, so that a source of millions of samples stays small to send."""


class Tars(Source):
    """Samples of WebDataset tars, one part a tar."""

    reasons = reasons("bad_json", "bad_text", "no_image", "truncated")

    def __init__(self, config: dag.WebDatasetSource) -> None:
        self._tars = tuple(_plan(file) for file in expand(config.paths))
        if not any(tar.rows for tar in self._tars):
            raise SourceError(f"{', '.join(config.paths)}: no samples in {len(self._tars)} tars; nothing to do")
        self.parts = distinct(Part(tar.file.name, tar.rows, tar.digest) for tar in self._tars)
        self.gives = _gives(frozenset[str]().union(*(tar.suffixes for tar in self._tars)))

    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows; failed as ``no_image``, ``bad_json``, ``bad_text`` or ``truncated`` where they are that."""
        part, tar = self.parts[unit.part], self._tars[unit.part]
        mark = unit.start // _STRIDE
        tar.file.check_size()
        try:
            with tar.file.open() as file:
                file.seek(tar.marks[mark])
                found = _samples(file, tar.file)
                samples = list(islice(found, unit.start - mark * _STRIDE, unit.stop - mark * _STRIDE))
                if len(samples) != unit.rows:
                    raise SourceError(f"{part.name}: has changed since the run was planned; start a new run")
                return [_row(part, number, sample, file) for number, sample in enumerate(samples, unit.start)]
        except OSError as error:
            raise SourceError(f"{part.name}: cannot be read: {error}") from None


def _gives(suffixes: frozenset[str]) -> frozenset[str]:
    fields = {"source_id"}
    if suffixes.intersection(IMAGE_SUFFIXES):
        fields |= {"original", "sha256"}
    if "txt" in suffixes:
        fields.add("alt_text")
    if "json" in suffixes:
        fields |= ALIASES.keys()
    return frozenset(fields)


@dataclass(frozen=True, slots=True)
class _Tar:
    """A tar as planned: ``marks`` are where every ``_STRIDE``-th sample starts, ``suffixes`` the member names used."""

    file: File
    rows: int
    digest: str
    marks: tuple[int, ...]
    suffixes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Member:
    """Where a member's bytes lie; ``checksum`` is that of its header."""

    offset: int
    size: int
    checksum: int


@dataclass(frozen=True, slots=True)
class _Sample:
    """A sample: where it starts, its members by name without key, and whether the tar breaks off at it."""

    key: str
    offset: int
    members: dict[str, _Member] = field(default_factory=dict)
    is_torn: bool = False


def _plan(file: File) -> _Tar:
    digest = hashlib.sha256(f"{file.size}\n".encode())
    marks: list[int] = []
    suffixes: set[str] = set()
    rows = 0
    try:
        with file.open() as stream:
            for rows, sample in enumerate(_samples(stream, file), 1):
                if (rows - 1) % _STRIDE == 0:
                    marks.append(sample.offset)
                suffixes |= sample.members.keys()
                for name, member in sample.members.items():
                    digest.update(f"{sample.key!a} {name!a} {member.offset} {member.size} {member.checksum}\n".encode())
    except OSError as error:
        raise SourceError(f"{file.name}: cannot be read: {error}") from None
    return _Tar(file, rows, digest.hexdigest(), tuple(marks), frozenset(suffixes & _USED_SUFFIXES))


def _samples(stream: IO[bytes], file: File) -> Iterator[_Sample]:
    """The samples from where the stream stands.

    Raises:
        SourceError: If that is no tar, or a compressed one.
    """
    sample: _Sample | None = None
    try:
        for info in _headers(stream, file.size):
            key, name = _split(info)
            if not key:
                continue
            if sample is None or key != sample.key or name in sample.members:
                if sample:
                    yield sample
                sample = _Sample(key, info.offset)
            sample.members[name] = _Member(info.offset_data, info.size, info.chksum)
    except tarfile.TarError as error:
        if sample is None:
            raise SourceError(f"{file.name}: no plain tar ({error}); decompress it or fetch it again") from None
        sample = replace(sample, is_torn=True)
    if sample:
        yield sample


def _split(info: tarfile.TarInfo) -> tuple[str, str]:
    """Key and lower-case name of a member of a sample; empty for what is none."""
    match = _NAME.fullmatch(info.name)
    is_hostile = info.name.startswith("/") or ".." in info.name.split("/")
    if not match or not info.isreg() or info.issparse() or is_hostile or _META.match(info.name):
        return "", ""
    return match[1], match[2].lower()


def _headers(stream: IO[bytes], size: int) -> Iterator[tarfile.TarInfo]:
    """The headers from where the stream stands up to the end mark.

    Raises:
        tarfile.ReadError: Where the tar of ``size`` bytes is damaged or ends without mark, which tarfile itself takes
            for its end.
    """
    try:
        tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115  (owns nothing)
        while info := tar.next():
            yield info
            if not info.offset < tar.offset <= size:
                raise tarfile.ReadError(f"{info.name}: its header claims {info.size} bytes, the tar has {size}")
            tar.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
    except (IndexError, OverflowError, RecursionError, ValueError) as error:  # tarfile lets these through
        raise tarfile.ReadError(f"damaged header: {error}") from None
    stream.seek(tar.offset)
    if stream.read(_BLOCK) != bytes(_BLOCK):
        raise tarfile.ReadError(f"no end mark at byte {tar.offset}")


def _row(part: Part, number: int, sample: _Sample, file: IO[bytes]) -> Row:
    where = f"{part.name}, sample {sample.key!r}"
    if sample.is_torn:
        row = make_row(part, number, {"source_id": sample.key})
        return fail(row, "truncated", f"{where}: the tar breaks off in or right after it; fetch or write the tar again")
    plain = _read_json(file, sample.members["json"]) if "json" in sample.members else {}
    row = _described(part, number, sample.key, plain or {}, _read_caption(file, sample))
    image = next((sample.members[suffix] for suffix in IMAGE_SUFFIXES if suffix in sample.members), None)
    if plain is None:
        return fail(row, "bad_json", f"{where}: its JSON member is not a JSON object")
    if image is None or not image.size:
        sizes = {name: member.size for name, member in sample.members.items()}
        return fail(row, "no_image", f"{where}: no {', '.join(IMAGE_SUFFIXES)} with content in {sizes!r:.200}")
    return row if row.verdict else with_original(row, _read(file, image))


def _described(part: Part, number: int, key: str, plain: Mapping[str, object], caption: bytes | None) -> Row:
    columns = find_columns(list(plain))
    chunks = [plain[name] for name in columns.pop("annotations", ())]
    values = {name: plain[names[0]] for name, names in columns.items()}
    if values.get("source_id") is None:
        values["source_id"] = key
    if caption is not None:
        values["alt_text"] = caption
    return make_row(part, number, values, chunks)


def _read(file: IO[bytes], member: _Member) -> bytes:
    file.seek(member.offset)
    return file.read(member.size)


def _read_caption(file: IO[bytes], sample: _Sample) -> bytes | None:
    return caption_text(_read(file, sample.members["txt"])) if "txt" in sample.members else None


def _read_json(file: IO[bytes], member: _Member) -> Mapping[str, object] | None:
    try:
        plain = json.loads(_read(file, member))
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None
