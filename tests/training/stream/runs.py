"""Runs as the engine commits them: shards, indices and unit records, made of drawn records."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from manifests.record import SCHEMA_VERSION, Record
from manifests.shard import build_index, parquet_bytes, record_sample
from manifests.tar import write_tar
from manifests.unit_record import SHARD_FOLDER, UNIT_FOLDER, UnitRecord, unit_name
from stages.masks import mask_png
from tests.training.stream.make import draw_record
from training.stream.buckets import RATIOS

SIZES = ((96, 64), (64, 64), (64, 96), (128, 64), (80, 72))


def write_unit(root: Path, number: int, records: Sequence[Record]) -> None:
    """Commit one unit."""
    for folder in (SHARD_FOLDER, UNIT_FOLDER):
        (root / folder).mkdir(parents=True, exist_ok=True)
    tar = root / SHARD_FOLDER / f"{unit_name(number)}.tar"
    with tar.open("w+b") as file:
        write_tar(file, [(record.key, record_sample(record, mask_png, RATIOS).members) for record in records])
        index = parquet_bytes(build_index(file))
    tar.with_suffix(".parquet").write_bytes(index)
    record = UnitRecord(
        schema_version=SCHEMA_VERSION,
        unit=number,
        source="drawn",
        start=0,
        stop=len(records),
        fingerprint="drawn",
        rows=len(records),
        kept=len(records),
        rejections=(),
        steps=(),
        tar_size=tar.stat().st_size,
        tar_sha256=hashlib.sha256(tar.read_bytes()).hexdigest(),
        index_sha256=hashlib.sha256(index).hexdigest(),
        rejects_sha256=None,
        finished_at="2026-01-01T00:00:00.000+00:00",
    )
    (root / UNIT_FOLDER / f"{unit_name(number)}.json").write_text(record.to_json())


def write_run(root: Path, units: int = 4, rows: int = 20, first: int = 0) -> Path:
    """Commit several units whose samples have pictures of five shapes and up to three subjects."""
    for unit in range(first, first + units):
        numbers = range(unit * rows, (unit + 1) * rows)
        write_unit(root, unit, [draw_record(f"drawn_{n}", *SIZES[n % 5], subjects=n % 4) for n in numbers])
    return root
