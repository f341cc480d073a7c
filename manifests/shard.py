"""The shard: a record as members of a plain USTAR tar, the index beside it, and the unit record that commits both."""

import io
import json
import math
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, BinaryIO

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from manifests.files import AnyPath
from manifests.histogram import EMPTY, Histogram
from manifests.record import SCHEMA_VERSION, Mask, Picture, Record, canonical_json, from_plain, to_plain

REJECT_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("url", pa.string()),
        pa.field("alt_text", pa.string()),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("node", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("message", pa.string(), nullable=False),
        pa.field("thumbnail", pa.binary()),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)
"""One row a dropped or failed record, in source order. ``thumbnail`` is a small JPEG where a picture exists."""

MaskEncoder = Callable[[Mask], bytes]
"""Turns a mask into a 1-bit PNG. An argument, so that this module needs no image library."""

_BLOCK = 512
_RECORD_SIZE = 10240

INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("member", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("bucket", pa.float64()),
        pa.field("subjects", pa.int32()),
    ],
    metadata={"schema_version": str(SCHEMA_VERSION)},
)
"""One row a member, in tar order. ``offset`` is where the member's bytes start. ``width`` and ``height`` are the
member's own, null where it is no picture; ``bucket`` and ``subjects`` are the sample's, null in foreign tars."""


class SchemaVersionError(ValueError):
    """Data written by a newer Inlay than this one."""


def check_version(found: int, where: str) -> None:
    """Refuse data whose schema is newer than ours.

    Raises:
        SchemaVersionError: Naming the place, both versions and the remedy.
    """
    if found > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{where}: schema version {found}, but this Inlay reads up to {SCHEMA_VERSION}; update Inlay to read it"
        )


def aspect_bucket(width: int, height: int, buckets: Sequence[float]) -> float:
    """The bucket (width / height) nearest to a picture's aspect ratio on a logarithmic scale; the smaller on a tie."""
    return min(sorted(buckets), key=lambda bucket: abs(math.log(bucket) - math.log(width / height)))


def record_members(record: Record, encode_mask: MaskEncoder, buckets: Sequence[float]) -> list[tuple[str, bytes]]:
    """A record as shard members ``(name without key, bytes)``, in their fixed order; the JSON comes last.

    Raises:
        ValueError: If the record has no image or caption, which a sample cannot be without.
    """
    if record.image is None or record.caption is None:
        raise ValueError(f"record {record.key}: a sample needs an image and a caption")
    members: list[tuple[str, bytes]] = [(record.image.format, record.image.data)]
    for number, subject in enumerate(record.subjects or ()):
        members += _picture(f"subject{number}", subject.crop)
        members += [(f"subject{number}.mask.png", encode_mask(subject.mask))] if subject.mask else []
        members += _picture(f"subject{number}.head", subject.head_crop)
    for number, face in enumerate(record.faces or ()):
        members += _picture(f"face{number}", face.crop)
    for number, region in enumerate(record.regions or ()):
        members += _picture(f"region{number}", region.crop)
        members += [(f"region{number}.mask.png", encode_mask(region.mask))] if region.mask else []
    members += [part for control in record.controls for part in _picture(control.kind, control.picture)]
    members += [(f"{feature.name}.safetensors", feature.data) for feature in record.features]
    members.append(("json", _record_json(record, buckets)))
    return members


def _picture(stem: str, picture: Picture | None) -> list[tuple[str, bytes]]:
    return [(f"{stem}.{picture.format}", picture.data)] if picture else []


def _record_json(record: Record, buckets: Sequence[float]) -> bytes:
    assert record.image is not None
    plain = _without_pixels(to_plain(record))
    plain["prompt"] = record.prompt.to_plain() if record.prompt else None
    for step in plain["steps"]:
        step["params"] = json.loads(step["params"])
    plain["bucket"] = aspect_bucket(record.image.width, record.image.height, buckets)
    plain = {"schema_version": SCHEMA_VERSION, **plain}
    return json.dumps(plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _without_pixels(value: Any) -> Any:
    """The same plain value, without the bytes of pictures and features and the never-stored original."""
    if isinstance(value, Mapping):
        return {k: _without_pixels(v) for k, v in value.items() if k not in ("original", "data")}
    if isinstance(value, list):
        return [_without_pixels(part) for part in value]
    return value


def record_from_members(members: Mapping[str, bytes], where: str = "sample") -> Record:
    """The record that :func:`record_members` wrote, but for ``original``, which shards don't keep.

    Args:
        members: Bytes by name without key, as WebDataset gives them.
        where: Named in errors.

    Raises:
        SchemaVersionError: If a newer Inlay wrote it.
        KeyError: If a member that the JSON refers to is missing.
    """
    plain = json.loads(members["json"])
    check_version(plain.pop("schema_version"), where)
    plain.pop("bucket")
    plain["prompt"] = json.dumps(plain["prompt"]) if plain["prompt"] is not None else None
    for step in plain["steps"]:
        step["params"] = canonical_json(step["params"])
    for name, part in _parts(plain):
        part["data"] = members[name]
    record: Record = from_plain(Record, plain)
    return record


def tar_header(name: str, size: int) -> bytes:
    """The 512-byte USTAR header of a regular file with fixed owner, mode and time.

    Raises:
        ValueError: If the name does not fit USTAR.
    """
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, 0o644, 0
    return info.tobuf(format=tarfile.USTAR_FORMAT, encoding="utf-8", errors="strict")


def write_tar(file: BinaryIO, samples: Iterable[tuple[str, Sequence[tuple[str, bytes]]]]) -> None:
    """Write samples ``(key, members)`` as a USTAR tar whose bytes depend on nothing else.

    Raises:
        ValueError: If a key has a dot, which WebDataset readers would split at.
    """
    for key, members in samples:
        if "." in key:
            raise ValueError(f"key {key!r} has a dot; WebDataset readers split names there")
        for name, data in members:
            file.write(tar_header(f"{key}.{name}", len(data)))
            file.write(data + bytes(-len(data) % _BLOCK))
    file.write(tar_end(file.tell()))


def tar_end(size: int) -> bytes:
    """What ends a tar after so many bytes of members."""
    return bytes(2 * _BLOCK + -(size + 2 * _BLOCK) % _RECORD_SIZE)


def tar_spans(index: pa.Table) -> list[tuple[int, int]]:
    """Where each sample of a tar of ours lies, ``[start, stop)`` in bytes with its headers, in order.

    Raises:
        ValueError: If samples and headers leave gaps: another's tar.
    """
    keys, offsets, sizes = (index[name].to_pylist() for name in ("key", "offset", "size"))
    stops = [offset + size + -size % _BLOCK for offset, size in zip(offsets, sizes, strict=True)]
    starts = [offset - _BLOCK for offset in offsets]
    if starts != [0, *stops[:-1]][: len(starts)]:
        raise ValueError("its members do not follow each other with one header each")
    if not keys:
        return []
    firsts = [place for place, key in enumerate(keys) if not place or key != keys[place - 1]]
    return [
        (starts[first], stops[following - 1]) for first, following in zip(firsts, [*firsts[1:], len(keys)], strict=True)
    ]


@dataclass(frozen=True, slots=True)
class TarMember:
    """A member as read back: its key, its name without key, where its bytes start, and the bytes."""

    key: str
    name: str
    offset: int
    data: bytes


def read_tar(file: BinaryIO) -> Iterator[TarMember]:
    """The regular files of a plain tar, from its start, in order.

    Raises:
        tarfile.ReadError: If the tar is truncated or damaged.
    """
    file.seek(0)
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            if info.isfile():
                stream = tar.extractfile(info)
                assert stream is not None
                data = stream.read()
                if len(data) != info.size:
                    raise tarfile.ReadError(f"{info.name}: {len(data)} of {info.size} bytes, the tar is truncated")
                key, _, name = info.name.partition(".")
                yield TarMember(key, name, info.offset_data, data)


def read_samples(file: BinaryIO) -> Iterator[tuple[str, dict[str, bytes]]]:
    """The samples of a tar: adjacent members of one key, by name."""
    current: str | None = None
    members: dict[str, bytes] = {}
    for member in read_tar(file):
        if member.key != current and current is not None:
            yield current, members
            members = {}
        current = member.key
        members[member.name] = member.data
    if current is not None:
        yield current, members


def build_index(file: BinaryIO) -> pa.Table:
    """The index of a shard, made from the tar alone."""
    rows: list[dict[str, Any]] = []
    sample: list[dict[str, Any]] = []
    for member in read_tar(file):
        row = {
            "key": member.key,
            "member": member.name,
            "offset": member.offset,
            "size": len(member.data),
            "crc32": zlib.crc32(member.data),
        }
        sample.append(row)
        if member.name == "json":
            rows += _with_sizes(sample, json.loads(member.data))
            sample = []
    return pa.Table.from_pylist(rows + sample, schema=INDEX_SCHEMA)


def _with_sizes(sample: list[dict[str, Any]], plain: dict[str, Any]) -> list[dict[str, Any]]:
    shared = {"bucket": plain["bucket"], "subjects": len(plain["subjects"] or [])}
    sizes = dict(_parts(plain)) | dict(_masks(plain))
    return [
        row | shared | {side: sizes.get(row["member"], {}).get(side) for side in ("width", "height")} for row in sample
    ]


def _parts(plain: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything in a sample's JSON whose bytes are a member of their own, by the member's name."""
    yield plain["image"]["format"], plain["image"]
    for stem, picture in _pictures(plain):
        if picture:
            yield f"{stem}.{picture['format']}", picture
    for feature in plain.get("features", ()):
        yield f"{feature['name']}.safetensors", feature


def _pictures(plain: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    for number, subject in enumerate(plain["subjects"] or ()):
        yield f"subject{number}", subject["crop"]
        yield f"subject{number}.head", subject.get("head_crop")
    for kind in ("face", "region"):
        for number, part in enumerate(plain.get(f"{kind}s") or ()):
            yield f"{kind}{number}", part["crop"]
    for control in plain["controls"]:
        yield control["kind"], control["picture"]


def _masks(plain: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for kind in ("subject", "region"):
        for number, part in enumerate(plain.get(f"{kind}s") or ()):
            if part["mask"]:
                yield f"{kind}{number}.mask.png", part["mask"]


def read_index(path: AnyPath) -> pa.Table:
    """A shard's index.

    Raises:
        SchemaVersionError: If a newer Inlay wrote it.
    """
    table = pq.read_table(pa.BufferReader(path.read_bytes()))
    check_version(int((table.schema.metadata or {}).get(b"schema_version", b"0")), str(path))
    return table


def parquet_bytes(table: pa.Table) -> bytes:
    """A table (an index, rejects, pairs) as the bytes of a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class HostErrors:
    """How many records failed at one host (``name:port``) for one reason."""

    host: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCount:
    """What one step did to one unit: records in, out, and the seconds ``process`` took.

    Attributes:
        downloaded: Bytes of the files it fetched, of records that it let through.
        batches: Seconds of each call of ``process``; empty in records of older runs, as all below.
        records: Seconds of single records, of stages that tell: of fetch, each URL from its first request on.
        hosts: The hosts at which most records failed, the worst first, of steps that download.
    """

    node: str
    records_in: int
    records_out: int
    seconds: float
    downloaded: int = 0
    batches: Histogram = EMPTY
    records: Histogram = EMPTY
    hosts: tuple[HostErrors, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """How many records of a unit one step dropped or failed for one reason."""

    kind: str
    node: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """Rows that a unit rejected and a later one tried again, by key: from then on the later one accounts for them.

    ``rejections`` is what they were rejected for.
    """

    unit: int
    keys: tuple[str, ...]
    rejections: tuple[Rejection, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedUnit:
    """A unit whose samples went into a larger shard: how many rows and samples of it, and its own shard's digest."""

    unit: int
    rows: int
    kept: int
    tar_sha256: str


SHARD_FOLDER, UNIT_FOLDER = "shards", "units"
"""Where an output folder has its tars with their indices, and the unit records that commit them."""


def unit_name(number: int) -> str:
    """Stem of every file a unit writes."""
    return f"{number:06d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """The commit of one unit: once this file is there the unit is done, and what it names is on disk.

    ``kept`` + the rejections' counts = ``rows``, always. Sizes are bytes; ``finished_at`` is UTC, ISO 8601.

    Attributes:
        attempt: 1, or more if its rows were tried again by ``python -m pipeline retry``; ``supersedes`` then says
            which, and ``stop`` how many.
        packed: The units it was packed of, in order, by ``python -m pipeline pack``; ``start`` and ``stop`` then count
            the rows of the folder's shards one after another.
        index_size: Bytes of the index; 0 in records of older runs. ``rejects_size`` likewise.
    """

    schema_version: int
    unit: int
    source: str
    start: int
    stop: int
    fingerprint: str
    rows: int
    kept: int
    rejections: tuple[Rejection, ...]
    steps: tuple[StepCount, ...]
    tar_size: int
    tar_sha256: str
    index_sha256: str
    rejects_sha256: str | None
    finished_at: str
    attempt: int = 1
    supersedes: tuple[Superseded, ...] = ()
    packed: tuple[PackedUnit, ...] = ()
    index_size: int = 0
    rejects_size: int = 0

    @property
    def written(self) -> int:
        """Bytes of shard, index and rejects."""
        return self.tar_size + self.index_size + self.rejects_size

    @property
    def name(self) -> str:
        """Stem of the unit's files."""
        return unit_name(self.unit)

    def to_json(self) -> str:
        """The record as an indented JSON document."""
        return json.dumps(to_plain(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "UnitRecord":
        """The record :meth:`to_json` wrote.

        Raises:
            SchemaVersionError: If a newer Inlay wrote it.
            ValueError: If it is none.
        """
        try:
            record: UnitRecord = _records().decode(text)
        except msgspec.DecodeError as error:
            check_version(_version(text), where)
            raise ValueError(str(error)) from error
        check_version(record.schema_version, where)
        return record


@cache
def _records() -> "msgspec.json.Decoder[UnitRecord]":
    return msgspec.json.Decoder(UnitRecord)


def _version(text: str | bytes) -> int:
    """Which schema a document says it follows; 0 if it says none."""
    plain = json.loads(text)
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    return version if isinstance(version, int) else 0
