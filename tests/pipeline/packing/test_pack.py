"""Packed shards: the same members at the places their index says, in order, whatever kills the packer."""

import dataclasses
import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from manifests.dag import ShardsSource
from manifests.files import create
from manifests.shard import read_index
from manifests.tar import read_samples
from manifests.unit_record import UnitRecord
from pipeline.__main__ import app
from pipeline.actor import FatalError
from pipeline.job import Job
from pipeline.ledger import Layout, ResumeError
from pipeline.local import run_local
from pipeline.packing.pack import Packed, Packer, PackOptions
from pipeline.packing.split import Split, SplitError, identity_of
from pipeline.packing.unpacked import PackError
from pipeline.progress import LineProgress
from pipeline.report.collect import collect
from pipeline.retrying.retry import retry
from pipeline.retrying.retry_plan import RetryError, read_rejected
from pipeline.run import Executor, Prepared, execute
from pipeline.sources import open_source
from pipeline.sources.base import Unit
from pipeline.totals import Totals
from pipeline.verify import verify
from tests.pipeline.toys import Paint, PaintIn
from training.stream.recipe import plain
from training.stream.source import Source
from training.stream.verify import VerifyOptions
from training.stream.verify import verify as verify_stream

Prepare = Callable[..., Prepared]
Sums = Callable[[Path], dict[str, str]]
Samples = list[tuple[str, dict[str, bytes]]]

SPLIT = Split.parse("train=80,validation=20")


def run(prepared: Prepared, out: Path, executor: Executor = run_local) -> Layout:
    execute(prepared, out, executor, LineProgress(io.StringIO()))
    return Layout(out)


def pack(layout: Layout, out: Path, shard_bytes: int = 70_000, **options: Any) -> Packed:
    return Packer(layout, out, PackOptions(shard_bytes=shard_bytes, **options)).pack(lambda done, total: None)


def samples(layout: Layout) -> Samples:
    found: Samples = []
    for name in layout.committed():
        with layout.tar(name).open("rb") as file:
            found += read_samples(file)
    return found


def by_index(layout: Layout) -> Samples:
    """The same by seeking to where the indices say."""
    found: Samples = []
    for name in layout.committed():
        data = layout.tar(name).read_bytes()
        for row in read_index(layout.index(name)).to_pylist():
            if not found or found[-1][0] != row["key"]:
                found.append((row["key"], {}))
            found[-1][1][row["member"]] = data[row["offset"] : row["offset"] + row["size"]]
    return found


def sums(layouts: Sequence[Layout]) -> dict[str, Any]:
    """What must add up over folders: rows, kept, reasons, records of steps."""
    totals = Totals.of([record for layout in layouts for record in layout.unit_records()])
    steps = {node: (sums.records_in, sums.records_out) for node, sums in totals.steps.items()}
    return {"rows": totals.rows, "kept": totals.kept, "rejected": totals.rejected, "steps": steps}


def count_downloads(layout: Layout) -> int:
    """Have the units' records say that their last step fetched 1000 bytes for each record; bytes in all."""
    for record in layout.unit_records():
        *others, last = record.steps
        fetched = dataclasses.replace(last, downloaded=1000 * last.records_out)
        layout.unit(record.name).write_text(dataclasses.replace(record, steps=(*others, fetched)).to_json())
    return Totals.of(list(layout.unit_records())).downloaded


def check_bytes(layout: Layout) -> None:
    """Records say of every shard how many bytes its files have."""
    for record in layout.unit_records():
        files = [layout.tar(record.name), layout.index(record.name), layout.rejects(record.name)]
        assert record.written == sum(path.stat().st_size for path in files if path.exists())


LISTS = st.lists(st.integers(0, 29), max_size=12)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(st.integers(0, 30), min_size=1, max_size=3).filter(any),
    drops=LISTS,
    fails=LISTS,
    size=st.integers(1, 90_000),
)
def test_packed_shards_hold_the_units_one_after_another(
    prepared: Prepare, tmp_path_factory: pytest.TempPathFactory, rows: list[int], drops: Any, fails: Any, size: int
) -> None:
    root = tmp_path_factory.mktemp("run")
    layout = run(prepared(*rows, params=f"{{drops: {drops}, fails: {fails}}}"), root / "out")
    packed = Layout(root / "packed")
    assert pack(layout, packed.root, size).units == len(layout.committed())
    assert samples(packed) == by_index(packed) == samples(layout)
    assert sums([packed]) == sums([layout])
    mistakes, found, shards = verify(packed)
    assert not mistakes and found == shards
    records = list(packed.unit_records())
    assert [unit.unit for record in records for unit in record.packed] == [int(name) for name in layout.committed()]
    assert all(record.tar_size <= max(size, 0) or len(record.packed) == 1 for record in records)
    assert [row.key for row in read_rejected(packed)] == [row.key for row in read_rejected(layout)]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 60), drops=LISTS)
def test_the_sides_of_a_split_share_everything_between_them(
    prepared: Prepare, tmp_path_factory: pytest.TempPathFactory, rows: int, drops: list[int]
) -> None:
    root = tmp_path_factory.mktemp("run")
    layout = run(prepared(rows, params=f"{{drops: {drops}}}"), root / "out")
    pack(layout, root / "packed", split=SPLIT)
    sides = [Layout(root / "packed" / side.name) for side in SPLIT.sides]
    for number, side in enumerate(sides):
        assert by_index(side) == [
            (key, members)
            for key, members in samples(layout)
            if SPLIT.side_of(identity_of(json.loads(members["json"]))) == number
        ]
        assert verify(side)[0] == []
        assert side.read_run().rows == sums([side])["rows"]
    assert sums(sides) == sums([layout])


@pytest.mark.parametrize("split", [None, SPLIT])
def test_bytes_written_and_downloaded_are_counted_as_in_the_run(
    prepared: Prepare, tmp_path: Path, split: Split | None
) -> None:
    layout = run(prepared(40, 25, params="{drops: [3], fails: [7]}"), tmp_path / "out")
    fetched = count_downloads(layout)
    packer = Packer(layout, tmp_path / "packed", PackOptions(shard_bytes=70_000, split=split))
    packer.pack(lambda done, total: None)
    for side in packer.sides:
        check_bytes(side)
    assert fetched > 0
    assert sum(Totals.of(list(side.unit_records())).downloaded for side in packer.sides) == fetched


def test_a_split_keeps_a_group_and_a_picture_together_and_comes_near_its_shares() -> None:
    assert {SPLIT.side_of(identity_of({"group": "ann", "sha256": str(n), "key": str(n)})) for n in range(50)} == {
        SPLIT.side_of("ann")
    }
    assert identity_of({"group": None, "sha256": "s", "url": "u", "key": "k"}) == "s"
    share = sum(SPLIT.side_of(f"key{n}") for n in range(20_000)) / 20_000
    assert abs(share - 0.2) < 0.01
    for wrong in ("train", "train=1", "train=80,train=20", "train=0,b=1", "../x=1,b=2", "a=0.5,b=0.5"):
        with pytest.raises(SplitError, match="train=80,validation=20"):
            Split.parse(wrong)


def stream_keys(folder: Path, cache: Path) -> set[str]:
    source = Source(str(folder), cache)
    snapshot = source.freeze(source.refresh(), plain(64).buckets)
    return {snapshot.entry(bucket, n).key for bucket, count in enumerate(snapshot.counts) for n in range(count)}


def test_the_stream_and_the_shards_source_read_the_same_samples(prepared: Prepare, tmp_path: Path) -> None:
    layout = run(prepared(60, params="{drops: [3]}"), tmp_path / "out")
    pack(layout, tmp_path / "packed", 60_000)
    assert 1 < len(Layout(tmp_path / "packed").committed()) < len(layout.committed())
    keys = [stream_keys(folder, tmp_path / "cache") for folder in (layout.root, tmp_path / "packed")]
    assert keys[0] == keys[1] and len(keys[0]) == sums([layout])["kept"]
    verified = verify_stream(str(tmp_path / "packed"), VerifyOptions(cache=tmp_path / "cache"), lambda done, all_: None)
    assert (verified.samples, verified.damaged) == (len(keys[0]), 0)
    sources = [open_source(ShardsSource(kind="shards", path=str(path))) for path in (layout.root, tmp_path / "packed")]
    read = [
        [row.record for place, part in enumerate(source.parts) for row in source.read(Unit(0, place, 0, part.rows))]
        for source in sources
    ]
    assert read[0] == read[1]


def test_a_damaged_unit_stops_the_packing_with_its_name_and_the_remedy(prepared: Prepare, tmp_path: Path) -> None:
    layout = run(prepared(24), tmp_path / "out")
    whole = layout.tar("000001").read_bytes()
    for damaged in (bytes([whole[600] ^ 1]).join([whole[:600], whole[601:]]), whole[:-10240], whole[:512]):
        layout.tar("000001").write_bytes(damaged)
        with pytest.raises(PackError, match=r"unit 000001 of .*: its tar is .*delete .*000001.json and run again"):
            pack(layout, tmp_path / "packed", 1)
    assert Layout(tmp_path / "packed").committed() == ["000000"]
    layout.tar("000001").write_bytes(whole)
    pack(layout, tmp_path / "packed", 1)
    assert samples(Layout(tmp_path / "packed")) == samples(layout)


def test_an_unfinished_run_is_packed_only_when_told_and_what_comes_later_is_added(
    prepared: Prepare, tmp_path: Path, shard_sums: Sums
) -> None:
    def some(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
        yield from run_local(job, [unit for unit in units if unit.number in (0, 1, 3)])

    layout = run(prepared(48), tmp_path / "out", some)
    with pytest.raises(PackError, match=r"3 of 6 units are left; finish the run first, or give --partial"):
        pack(layout, tmp_path / "packed")
    packed = Layout(tmp_path / "packed")
    pack(layout, packed.root, partial=True)
    before = shard_sums(packed.root)
    run(prepared(48), layout.root)
    pack(layout, packed.root)
    after = shard_sums(packed.root)
    assert {name: after[name] for name in before} == before
    assert sorted(samples(packed)) == sorted(samples(layout))
    assert sums([packed]) == sums([layout])
    assert verify(packed)[0] == [] and packed.read_run().rows == 48


@pytest.mark.parametrize("split", [None, SPLIT])
def test_what_a_retry_brought_is_added_and_its_rows_no_longer_count_as_failed(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: Split | None
) -> None:
    from stages.base import Fail

    paint, down = Paint._paint, [frozenset(range(0, 40, 3))]

    def painted(stage: Paint, record: PaintIn) -> Any:
        return Fail("broken") if record.row in down[0] else paint(stage, record)

    monkeypatch.setattr(Paint, "_paint", painted)
    layout = run(prepared(40), tmp_path / "out")
    pack(layout, tmp_path / "packed", split=split)
    folders = [Layout(tmp_path / "packed" / side) for side in PackOptions(shard_bytes=1, split=split).sides]
    for down[0] in (frozenset({6, 12, 18}), frozenset({12})):
        retry(layout, ["broken"], run_local, LineProgress(io.StringIO()))
        pack(layout, tmp_path / "packed", split=split)
    fresh = Layout(tmp_path / "fresh")
    pack(layout, fresh.root)
    assert sorted(sample for folder in folders for sample in samples(folder)) == sorted(samples(layout))
    for packed in ([fresh], folders):
        assert sums(packed) == sums([layout])
        standing = sorted(row.key for folder in packed for row in read_rejected(folder))
        assert standing == sorted(row.key for row in read_rejected(layout))
        assert [verify(folder)[0] for folder in packed] == [[] for _ in packed]
    assert collect(fresh).unbalanced == () and collect(fresh).rows == 40
    with pytest.raises(RetryError, match="was packed from another run; retry that one"):
        retry(fresh, ["broken"], run_local, LineProgress(io.StringIO()))


def test_another_run_other_options_or_a_changed_unit_are_refused(prepared: Prepare, tmp_path: Path) -> None:
    layout = run(prepared(24), tmp_path / "out")
    pack(layout, tmp_path / "packed")
    with pytest.raises(ResumeError, match="packed shard bytes: was 70000, is 40000"):
        pack(layout, tmp_path / "packed", 40_000)
    with pytest.raises(ResumeError, match="packed holds a run and takes no sides of a split; give a new folder"):
        pack(layout, tmp_path / "packed", split=SPLIT)
    assert not (tmp_path / "packed" / "train").exists()
    with pytest.raises(ResumeError, match="seed: was 7, is 8"):
        pack(run(prepared(24, seed=8), tmp_path / "other"), tmp_path / "packed")
    with pytest.raises(ResumeError, match=r"packed side: was \., is absent"):
        run(prepared(24), tmp_path / "packed")
    plain = json.loads(layout.unit("000001").read_text())
    layout.unit("000001").write_text(json.dumps(plain | {"tar_sha256": "0" * 64}))
    with pytest.raises(PackError, match=r"unit 000001 of .* has changed since it was packed into .*000000\.tar"):
        pack(layout, tmp_path / "packed")


def command(layout: Layout, out: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "pipeline",
        "pack",
        str(layout.root),
        "--out",
        str(out),
        "--shard-bytes",
        "70kB",
        *more,
    ]


def has_begun(layout: Layout, shard: int) -> bool:
    """Whether so many shards are done and the next is being written."""
    return len(layout.committed()) >= shard and any(layout.root.glob("shards/.*.tmp"))


@pytest.mark.parametrize(
    ("rows", "kills", "more"),
    [
        (160, (2,), ()),
        pytest.param(800, (0, 1, 5, 11, 20), ("--split", "train=80,validation=20"), marks=pytest.mark.fire),
    ],
)
def test_killed_while_packing_the_same_command_goes_on_to_the_same_bytes(
    prepared: Prepare, tmp_path: Path, shard_sums: Sums, rows: int, kills: Sequence[int], more: tuple[str, ...]
) -> None:
    layout = run(prepared(rows), tmp_path / "out")
    split = SPLIT if more else None
    pack(layout, tmp_path / "quiet", split=split)
    out = tmp_path / "killed"
    sides = PackOptions(shard_bytes=1, split=split).sides
    for shards in kills:
        process = subprocess.Popen(command(layout, out, *more), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not has_begun(Layout(out / sides[-1]), shards) and process.poll() is None:
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("units/*.json")}
    done = subprocess.run(command(layout, out, *more), capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for side in sides:
        assert shard_sums(out / side) == shard_sums(tmp_path / "quiet" / side)
        assert verify(Layout(out / side))[0] == []
    assert not list(out.rglob("*.tmp"))


def test_who_was_taken_for_dead_while_packing_writes_no_more(
    prepared: Prepare, tmp_path: Path, shard_sums: Sums
) -> None:
    layout = run(prepared(100), tmp_path / "out")
    packed = Layout(tmp_path / "packed")
    sums_then: list[dict[str, str]] = []

    def taken_over(done: int, total: int | None) -> None:
        if not sums_then:
            create(packed.lease(2), packed.lease(1).read_bytes())
            sums_then.append(shard_sums(packed.root))

    with pytest.raises(FatalError, match="another run has taken this folder over"):
        Packer(layout, packed.root, PackOptions(shard_bytes=70_000)).pack(taken_over)
    assert [shard_sums(packed.root)] == sums_then and packed.committed() == ["000000"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--shard-bytes=big",), "'big' is no size; give a number of bytes"),
        (("--split=train",), "--split 'train': give names with whole shares"),
        (("--shard-bytes=70kB", "--split=train=80,validation=20"), "validation: 6 shards"),
    ],
)
def test_the_command_says_what_it_did_or_what_was_wrong(
    prepared: Prepare, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    layout = run(prepared(100), tmp_path / "out")
    done = CliRunner().invoke(app, ["pack", str(layout.root), "--out", str(tmp_path / "packed"), *arguments])
    assert says in " ".join(done.output.split())
    assert done.exit_code == (0 if "6 shards" in says else 2)
    assert (tmp_path / "packed").exists() == (done.exit_code == 0)
