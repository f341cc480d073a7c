"""The shard: a record as members of a plain USTAR tar, and the index beside it."""

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from zlib_ng import zlib_ng

from manifests.files import AnyPath
from manifests.record import SCHEMA_VERSION, Mask, Picture, Record, StepUse, canonical_json, from_plain, to_plain
from manifests.tar import TarMember, lay_out, read_tar

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A record as it goes into a shard: members ``(name without key, bytes)`` in their fixed order, the JSON last.

    ``plain`` is what the JSON says.
    """

    key: str
    members: Sequence[tuple[str, bytes]]
    plain: Mapping[str, Any]


def record_sample(record: Record, encode_mask: MaskEncoder, buckets: Sequence[float]) -> Sample:
    """A record as a shard's sample.

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
    plain = _record_plain(record, record.image, buckets)
    return Sample(key=record.key, members=[*members, ("json", _JSON.encode(plain).encode())], plain=plain)


def _picture(stem: str, picture: Picture | None) -> list[tuple[str, bytes]]:
    return [(f"{stem}.{picture.format}", picture.data)] if picture else []


def _record_plain(record: Record, image: Picture, buckets: Sequence[float]) -> dict[str, Any]:
    plain = to_plain(record, without=_NOT_BY_ITSELF)
    plain["prompt"] = record.prompt.to_plain() if record.prompt else None
    plain["steps"] = [_step_plain(step) for step in record.steps]
    bucket = aspect_bucket(image.width, image.height, buckets)
    return {"schema_version": SCHEMA_VERSION, **plain, "bucket": bucket}


_NOT_BY_ITSELF = frozenset({"original", "data", "steps"})
"""Fields with the bytes of pictures and features, which are members of their own; what shards never keep; the steps."""

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


@lru_cache(maxsize=256)
def _step_plain(step: StepUse) -> Mapping[str, Any]:
    """A step, of which all records of a unit have the same."""
    return {**to_plain(step), "params": json.loads(step.params)}


def record_from_members(members: Mapping[str, bytes], where: str = "sample") -> Record:
    """The record that :func:`record_sample` made, but for ``original``, which shards don't keep.

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


def build_index(file: BinaryIO) -> pa.Table:
    """The index of a shard, made from the tar alone."""
    return _index(read_tar(file), lambda member: json.loads(member.data))


def index_of(samples: Sequence[Sample]) -> pa.Table:
    """The index of the tar that :func:`~manifests.tar.write_tar` makes of samples."""
    plains = iter([sample.plain for sample in samples])
    return _index(lay_out((sample.key, sample.members) for sample in samples), lambda _: next(plains))


def _index(members: Iterable[TarMember], read_json: Callable[[TarMember], Mapping[str, Any]]) -> pa.Table:
    rows: list[tuple[Any, ...]] = []
    sample: list[TarMember] = []
    for member in members:
        sample.append(member)
        if member.name == "json":
            rows += _index_rows(sample, read_json(member))
            sample = []
    rows += [(*_own(member), None, None, None, None) for member in sample]
    columns = list(zip(*rows, strict=True)) or [()] * len(INDEX_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, INDEX_SCHEMA, strict=True)]
    return pa.table(arrays, INDEX_SCHEMA)


def _index_rows(sample: Sequence[TarMember], plain: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    bucket, subjects = plain["bucket"], len(plain["subjects"] or [])
    sizes = dict(_parts(plain)) | dict(_masks(plain))
    for member in sample:
        size = sizes.get(member.name, {})
        yield *_own(member), size.get("width"), size.get("height"), bucket, subjects


def _own(member: TarMember) -> tuple[Any, ...]:
    return member.key, member.name, member.offset, len(member.data), zlib_ng.crc32(member.data)


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
