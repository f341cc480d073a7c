"""The demo's manifest, on the demo's bad rows; and that the manifests users copy can run."""

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from manifests.dag import parse_manifest, read_manifest
from pipeline.demo.entry import GOOD, Entry
from pipeline.demo.rows import SCHEMA
from pipeline.demo.server import choose_port, serve
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.plan import bind
from pipeline.progress import LineProgress
from pipeline.run import execute, prepare
from stages import STAGES

VERDICTS = {
    "banner": ("dropped", "decode", "extreme_aspect"),
    "blank_caption": ("dropped", "caption", "no_caption"),
    "bomb": ("failed", "decode", "bomb"),
    "cut_off": ("failed", "fetch", "short_body"),
    "empty": ("failed", "fetch", "empty"),
    "endless": ("failed", "fetch", "too_large"),
    "file_url": ("failed", "fetch", "scheme_refused"),
    "flat": ("dropped", "decode", "flat"),
    "html": ("failed", "decode", "not_an_image"),
    "icon": ("dropped", "decode", "too_small"),
    "no_subject": ("dropped", "ground", "no_subject_grounded"),
    "not_found": ("failed", "fetch", "http_404"),
    "null_caption": ("dropped", "caption", "no_caption"),
    "null_url": ("failed", "source", "no_url"),
    "same_bytes": ("dropped", "dedup", "duplicate_file"),
    "same_url": ("dropped", "dedup", "duplicate_url"),
    "server_error": ("failed", "fetch", "http_5xx"),
    "slow": ("failed", "fetch", "timeout"),
    "small_subject": ("dropped", "select", "no_subject_left"),
    "svg": ("failed", "decode", "not_an_image"),
    "truncated": ("failed", "decode", "truncated"),
}


def faults_alone(built: Path, table: list[Entry], folder: Path, port: int) -> list[Entry]:
    """Write a table of the faults and of what the duplicates among them repeat; return its entries."""
    follower = [*(entry.kind for entry in table[1:]), GOOD]
    wanted = [
        entry.kind != GOOD or after in ("same_url", "same_bytes") for entry, after in zip(table, follower, strict=True)
    ]
    numbers = [number for number, is_wanted in enumerate(wanted) if is_wanted]
    rows = [row for path in sorted(built.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]
    moved = [{**rows[number], "url": table[number].url(port)} for number in numbers]
    pq.write_table(pa.Table.from_pylist(moved, SCHEMA), folder / "faults.parquet")
    return [table[number] for number in numbers]


def test_every_fault_meets_its_verdict_and_nothing_else_is_lost(
    built: Path, table: list[Entry], tmp_path: Path
) -> None:
    port = choose_port(tmp_path)
    entries = faults_alone(built, table, tmp_path, port)
    text = Path("manifests/demo.yaml").read_text().replace("build/demo/source/*", f"{tmp_path}/faults")
    out = tmp_path / "out"
    with serve(built, port), open(os.devnull, "w") as nowhere:
        execute(prepare(parse_manifest(text, "demo.yaml")), out, run_local, LineProgress(nowhere))
    rejects = [row for path in sorted(out.glob("rejects/*")) for row in pq.read_table(path).to_pylist()]
    found = {entries[row["row"]].kind: (row["kind"], row["node"], row["reason"]) for row in rejects}
    assert found == VERDICTS
    assert len(entries) == len(rejects) + sum(record.kept for record in Layout(out).unit_records())


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("demo", {"url", "alt_text", "annotations"}),
        ("coco", {"original", "sha256", "alt_text", "annotations"}),
    ],
)
def test_the_manifests_that_users_copy_bind_to_the_stages(name: str, given: set[str]) -> None:
    plan = bind(read_manifest(Path(f"manifests/{name}.yaml")), frozenset(given))
    assert plan.name == name
    assert [step.stage for step in plan.steps][-1] is STAGES["interleave"]
