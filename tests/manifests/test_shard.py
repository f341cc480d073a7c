"""Shards: same records, same bytes; everything comes back; nothing half comes back."""

import dataclasses
import io
import json
import tarfile
import zlib
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from manifests.record import SCHEMA_VERSION, Record
from manifests.shard import (
    INDEX_SCHEMA,
    SchemaVersionError,
    aspect_bucket,
    build_index,
    check_version,
    index_of,
    parquet_bytes,
    read_index,
    record_from_members,
    record_sample,
)
from manifests.tar import read_samples, read_tar, write_tar
from manifests.unit_record import UnitRecord
from stages.masks import encode_mask, mask_png
from tests.strategies import records

BUCKETS = (0.5, 0.75, 1.0, 1.5, 2.0)

kept_records = st.lists(records(), max_size=4, unique_by=lambda record: record.key)


def shard(kept: list[Record]) -> bytes:
    file = io.BytesIO()
    write_tar(file, [(record.key, record_sample(record, mask_png, BUCKETS).members) for record in kept])
    return file.getvalue()


@settings(deadline=None, max_examples=50)
@given(kept_records)
def test_a_shard_gives_its_records_back(kept: list[Record]) -> None:
    samples = list(read_samples(io.BytesIO(shard(kept))))
    assert [key for key, _ in samples] == [record.key for record in kept]
    stored = [dataclasses.replace(record, original=None) for record in kept]
    assert [record_from_members(members) for _, members in samples] == stored


@settings(deadline=None, max_examples=30)
@given(kept_records)
def test_the_mask_pictures_are_the_masks(kept: list[Record]) -> None:
    for record, (_, members) in zip(kept, read_samples(io.BytesIO(shard(kept))), strict=True):
        for number, subject in enumerate(record.subjects or ()):
            assert (f"subject{number}.mask.png" in members) == (subject.mask is not None)
            if subject.mask:
                with Image.open(io.BytesIO(members[f"subject{number}.mask.png"])) as image:
                    assert encode_mask(np.asarray(image)) == subject.mask


@settings(deadline=None, max_examples=50)
@given(kept_records)
def test_the_index_finds_every_member_in_the_tar(kept: list[Record]) -> None:
    data = shard(kept)
    index = build_index(io.BytesIO(data))
    assert index.schema.equals(INDEX_SCHEMA, check_metadata=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
    assert [f"{row['key']}.{row['member']}" for row in index.to_pylist()] == names
    for row in index.to_pylist():
        assert zlib.crc32(data[row["offset"] : row["offset"] + row["size"]]) == row["crc32"]


@settings(deadline=None, max_examples=50)
@given(kept_records)
def test_the_index_of_samples_is_that_of_their_tar(kept: list[Record]) -> None:
    samples = [record_sample(record, mask_png, BUCKETS) for record in kept]
    file = io.BytesIO()
    assert write_tar(file, [(sample.key, sample.members) for sample in samples]) == sha256(file.getvalue()).hexdigest()
    assert index_of(samples).equals(build_index(file), check_metadata=True)


@settings(deadline=None, max_examples=30)
@given(kept_records)
def test_the_index_knows_sizes_buckets_and_subjects(kept: list[Record]) -> None:
    index = build_index(io.BytesIO(shard(kept))).to_pylist()
    by_name = {(row["key"], row["member"]): row for row in index}
    for record in kept:
        assert record.image
        row = by_name[record.key, record.image.format]
        assert (row["width"], row["height"]) == (record.image.width, record.image.height)
        assert row["subjects"] == len(record.subjects or ())
        assert row["bucket"] == aspect_bucket(record.image.width, record.image.height, BUCKETS)


@settings(deadline=None, max_examples=20)
@given(st.lists(records(), min_size=1, max_size=3, unique_by=lambda r: r.key), st.data())
def test_a_truncated_tar_never_yields_a_half_record(kept: list[Record], data: st.DataObject) -> None:
    whole = shard(kept)
    cut = io.BytesIO(whole[: data.draw(st.integers(0, len(whole) - 1))])
    known = {record.key: dataclasses.replace(record, original=None) for record in kept}
    found = []
    try:
        for key, members in read_samples(cut):
            found.append((key, members))
    except tarfile.ReadError:
        pass
    for key, members in found:
        if "json" in members:
            assert record_from_members(members) == known[key]


def test_a_sample_needs_an_image_and_a_caption() -> None:
    with pytest.raises(ValueError, match="needs an image and a caption"):
        record_sample(Record(key="k", source="s", row=0), mask_png, BUCKETS)


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_bucket_is_the_nearest_by_ratio(width: int, height: int) -> None:
    bucket = aspect_bucket(width, height, BUCKETS)
    ratio = width / height
    for other in BUCKETS:
        assert max(bucket / ratio, ratio / bucket) <= max(other / ratio, ratio / other) * (1 + 1e-12)


def test_what_a_newer_inlay_wrote_is_refused(tmp_path: Path) -> None:
    newer = SCHEMA_VERSION + 1
    says = f"schema version {newer}, but this Inlay reads up to {SCHEMA_VERSION}; update Inlay"
    with pytest.raises(SchemaVersionError, match=says):
        check_version(newer, "x")
    with pytest.raises(SchemaVersionError, match=f"shard.tar: k: {says}"):
        record_from_members({"json": json.dumps({"schema_version": newer, "bucket": 1}).encode()}, "shard.tar: k")
    with pytest.raises(SchemaVersionError, match=f"unit 3: {says}"):
        UnitRecord.from_json(json.dumps({"schema_version": newer}), "unit 3")
    table = INDEX_SCHEMA.empty_table().replace_schema_metadata({"schema_version": str(newer)})
    pq.write_table(table, tmp_path / "index.parquet")
    with pytest.raises(SchemaVersionError, match=says):
        read_index(tmp_path / "index.parquet")


def test_an_index_survives_its_file(tmp_path: Path) -> None:
    file = io.BytesIO()
    write_tar(file, [("k", [("txt", b"hello"), ("cls", b"1")])])
    index = build_index(file)
    (tmp_path / "i.parquet").write_bytes(parquet_bytes(index))
    assert read_index(tmp_path / "i.parquet").equals(index)
    assert [member.name for member in read_tar(file)] == index.column("member").to_pylist() == ["txt", "cls"]
