"""Runs into an object store: the same bytes as on a disk, whatever the store and the network do."""

import dataclasses
import io
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from manifests import dag
from manifests.files import AnyPath, create, open_path, write_atomically
from manifests.store import StorePath
from manifests.unit_record import UnitRecord
from pipeline.__main__ import app
from pipeline.actor import FatalError
from pipeline.job import Job
from pipeline.ledger import Layout, ResumeError
from pipeline.local import run_local
from pipeline.run import Executor, Outcome
from pipeline.sources import open_source
from pipeline.sources.base import Source, SourceError, Unit
from pipeline.sources.keep_list import KEEP_SCHEMA, write_keep_list
from pipeline.verify import verify
from tests.pipeline.processes import call
from tests.pipeline.stores.server import Fault, Kind, Proxy
from tests.pipeline.stores.shelf import Prepare, fill, run, sums


def test_a_run_into_a_store_writes_the_bytes_of_a_local_one(
    prepared: Prepare, place: StorePath, tmp_path: Path
) -> None:
    assert run(prepared(20, 5), place) == Outcome(units=4, left=0)
    run(prepared(20, 5), tmp_path)
    assert sums(place) == sums(tmp_path)
    assert verify(Layout(place)) == ([], 4, 4)
    assert run(prepared(20, 5), place) == Outcome(units=4, left=0)


def test_the_record_is_written_last_and_on_condition(prepared: Prepare, place: StorePath, proxy: Proxy) -> None:
    run(prepared(8), place)
    written = [path.rpartition("/")[0].rpartition("/")[2] for path in proxy.asked("PUT", "000000.")]
    assert written == ["shards", "shards", "rejects", "units"]


@pytest.mark.parametrize("kind", ["500", "503", "drop", "lose", "slow"])
def test_no_fault_that_passes_changes_a_byte(
    prepared: Prepare, place: StorePath, proxy: Proxy, tmp_path: Path, kind: Kind
) -> None:
    proxy.faults = [Fault(kind, count=100, every=4)]
    assert run(prepared(24), place).left == 0
    assert proxy.faults[0].count < 98
    proxy.calm()
    run(prepared(24), tmp_path)
    assert sums(place) == sums(tmp_path) and verify(Layout(place)) == ([], 3, 3)


def test_a_refusal_ends_the_run_with_the_url_and_what_to_do(prepared: Prepare, place: StorePath, proxy: Proxy) -> None:
    proxy.faults = [Fault("403", lambda method, path: method == "PUT" and "000001.tar" in path, count=10**6)]
    with pytest.raises(FatalError, match=r"cannot write unit 000001 to s3://.*the store refuses.*credentials"):
        run(prepared(16), place)
    assert Layout(place).committed() == ["000000"]


def remembering(jobs: list[Job]) -> Executor:
    def executor(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
        jobs.append(job)
        return run_local(job, units)

    return executor


def test_a_worker_left_over_from_a_lost_driver_changes_nothing(prepared: Prepare, place: StorePath) -> None:
    jobs: list[Job] = []
    run(prepared(16), place, remembering(jobs))
    run(prepared(16), place)
    before = sums(place)
    with pytest.raises(FatalError, match="another run has taken this folder over"):
        list(run_local(jobs[0], prepared(16).units))
    assert sums(place) == before


def test_a_late_upload_of_a_lost_driver_does_not_overwrite_what_is_committed(
    prepared: Prepare, place: StorePath, proxy: Proxy
) -> None:
    """The old worker passes its first check, then its upload takes as long as a whole run of another driver."""
    jobs: list[Job] = []
    run(prepared(8, limit=1), place / "run", remembering(jobs))
    layout = Layout(place / "run")
    for path in (layout.unit("000000"), layout.tar("000000"), layout.index("000000")):
        path.unlink()
    stale = jobs[0]
    (unit,) = prepared(8, limit=1).units

    def another_driver(method: str, path: str) -> None:
        if method == "PUT" and "000000.tar" in path:
            proxy.before = lambda method, path: None
            run(prepared(8, limit=1), place / "run")
            committed.update(sums(place / "run"))

    committed: dict[str, str] = {}
    proxy.before = another_driver
    with pytest.raises(FatalError, match="another run has taken this folder over"):
        list(run_local(stale, [unit]))
    assert committed and sums(place / "run") == committed and verify(layout) == ([], 1, 1)


def test_a_unit_that_is_committed_stays_as_it_is(prepared: Prepare, place: StorePath) -> None:
    """A worker that was taken for dead comes late, with what it got from a web that has changed meanwhile."""
    jobs: list[Job] = []
    run(prepared(8), place, remembering(jobs))
    run(prepared(8, params="{drops: [1]}"), place / "other", remembering(jobs))
    before = sums(place)
    late = Job(source=jobs[1].source, plan=jobs[1].plan, commit=jobs[0].commit)
    assert list(run_local(late, prepared(8).units)) == list(Layout(place).unit_records())
    assert sums(place) == before


def test_of_two_who_commit_a_unit_at_the_same_moment_one_is_refused_and_says_so(
    prepared: Prepare, place: StorePath, proxy: Proxy
) -> None:
    run(prepared(8), place / "whole")
    (record,) = Layout(place / "whole").unit_records()
    other = dataclasses.replace(record, tar_sha256="0" * 64).to_json().encode()

    def overtake(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("/run/units/000000.json"):
            proxy.before = lambda method, path: None
            create(Layout(place / "run").unit("000000"), other)

    proxy.before = overtake
    with pytest.raises(FatalError, match="another worker has committed this unit meanwhile"):
        run(prepared(8), place / "run")
    assert Layout(place / "run").unit("000000").read_bytes() == other


def test_objects_in_the_place_that_are_no_run_are_not_touched(prepared: Prepare, place: StorePath) -> None:
    write_atomically(place / "thesis.txt", b"mine")
    with pytest.raises(ResumeError, match="is not empty and holds no run"):
        run(prepared(8), place)
    assert [path.name for path in place.iterdir()] == ["thesis.txt"]


def test_status_tells_a_run_that_goes_on_from_one_that_has_stopped(prepared: Prepare, place: StorePath) -> None:
    said: list[str] = []

    def telling(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
        for record in run_local(job, units):
            said.append(say("status", place))
            yield record
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(prepared(24), place, telling)
    assert f"1 of 3 units done, 0 failed, 2 left; running ({socket.gethostname()}, process {os.getpid()}" in said[0]
    assert "1 of 3 units done, 0 failed, 2 left; not running" in say("status", place)


def test_lists_of_prompts_may_lie_in_a_store(place: StorePath, tmp_path: Path) -> None:
    for folder in (place, tmp_path):
        for name in ("contents", "styles"):
            write_atomically(folder / f"{name}.txt", f"{name} 0\n{name} 1\n".encode())

    def opened(folder: AnyPath) -> Source:
        lists = {name: f"{folder}/{name}.txt" for name in ("contents", "styles")}
        return open_source(dag.PromptsSource(kind="prompts", styles_per_content=2, **lists))

    there, here = opened(place), opened(tmp_path)
    rows = [[row.record.synthesis for row in source.read(Unit(0, 0, 0, 2))] for source in (there, here)]
    assert rows[0] == rows[1]


def test_what_verify_finds_in_a_store_is_what_it_finds_on_a_disk(prepared: Prepare, place: StorePath) -> None:
    run(prepared(24), place)
    layout = Layout(place)
    layout.tar("000000").unlink()
    write_atomically(layout.index("000001"), b"torn")
    write_atomically(place / "shards" / "000009.tar", b"stray")
    found, _, _ = verify(layout)
    for word in ("000000.tar: missing", "000001.parquet: sha256 is", "000009.tar: belongs to no unit"):
        assert any(word in mistake for mistake in found), found


def test_a_finished_run_in_a_store_is_a_source(prepared: Prepare, place: StorePath, tmp_path: Path) -> None:
    for out in (place, tmp_path):
        run(prepared(20), out)
    there, here = (open_source(dag.ShardsSource(kind="shards", path=str(out))) for out in (place, tmp_path))
    for part, count in enumerate(part.rows for part in here.parts):
        rows = [source.read(Unit(0, part, 0, count)) for source in (there, here)]
        assert rows[0] == rows[1]
    assert there.gives == here.gives and [part.digest for part in there.parts] == [part.digest for part in here.parts]


def test_a_source_that_is_no_run_is_told(place: StorePath) -> None:
    for where in (str(place), "nonsense://a/b"):
        with pytest.raises(SourceError, match=where):
            open_source(dag.ShardsSource(kind="shards", path=where))


SOURCES: dict[str, Callable[[str], dag.ParquetSource | dag.WebDatasetSource]] = {
    "rows/*.parquet": lambda path: dag.ParquetSource(kind="parquet", paths=(path,)),
    "tars/*.tar": lambda path: dag.WebDatasetSource(kind="webdataset", paths=(path,)),
}


@pytest.mark.parametrize("kind", ["500", "503", "drop", "lose"])
def test_sources_in_a_store_give_the_rows_of_local_ones_through_all_faults(
    place: StorePath, proxy: Proxy, tmp_path: Path, kind: Kind
) -> None:
    for folder in (place, tmp_path):
        fill(folder)
    proxy.faults = [Fault(kind, count=100, every=3)]
    for pattern, config in SOURCES.items():
        there, here = (open_source(config(f"{folder}/{pattern}")) for folder in (place, tmp_path))
        assert [(part.rows, part.digest) for part in there.parts] == [(part.rows, part.digest) for part in here.parts]
        for part, about in enumerate(here.parts):
            unit = Unit(0, part, about.rows // 3, about.rows)
            found, wanted = there.read(unit), here.read(unit)
            assert [row.record.original for row in found] == [row.record.original for row in wanted]
            assert [row.record.alt_text for row in found] == [row.record.alt_text for row in wanted]
    assert proxy.faults[0].count < 98


ROWS = """
name: rows
source: {{kind: parquet, paths: ["{folder}/rows/*.parquet"]{keep}}}
nodes:
- {{id: fetch, stage: fetch}}
- {{id: decode, stage: decode, needs: [fetch]}}
- {{id: caption, stage: caption, needs: [decode]}}
"""


def repeating(folder: AnyPath) -> None:
    """Rows of which every third repeats the first."""
    sink = io.BytesIO()
    urls = [f"http://a/{number if number % 3 else 0}.jpg" for number in range(30)]
    pq.write_table(pa.table({"URL": urls, "TEXT": ["a picture"] * 30}), sink)
    write_atomically(folder / "rows" / "part-0.parquet", sink.getvalue())


def test_a_keep_list_in_a_store_drops_what_a_local_one_does(place: StorePath, tmp_path: Path) -> None:
    found = []
    for folder in (place, tmp_path):
        repeating(folder)
        (tmp_path / "rows.yaml").write_text(ROWS.format(folder=folder, keep=""))
        keep = str(folder / "lists" / "urls.parquet")
        assert "9 of 30 rows repeat another" in say("dedup", tmp_path / "rows.yaml", "--out", keep)
        source = open_source(dag.ParquetSource(kind="parquet", paths=(f"{folder}/rows/*.parquet",), keep=(keep,)))
        rows = source.read(Unit(0, 0, 0, 30))
        found.append([(row.record.row, row.verdict and row.verdict.reason) for row in rows])
    assert found[0] == found[1] and sum(reason == "duplicate_url" for _, reason in found[0]) == 9
    assert [path.name for path in (place / "lists").iterdir()] == ["urls.parquet"]


def test_a_keep_list_that_changed_in_its_store_or_is_none_is_told(place: StorePath) -> None:
    repeating(place)

    def opened(keep: str) -> Source:
        return open_source(dag.ParquetSource(kind="parquet", paths=(f"{place}/rows/*.parquet",), keep=(keep,)))

    lists = place / "lists" / "urls.parquet"
    write_keep_list(lists, [KEEP_SCHEMA.empty_table()])
    source = opened(str(lists))
    write_atomically(lists, lists.read_bytes() + b" ")
    with pytest.raises(SourceError, match=rf"{lists}: has changed since the run was planned"):
        source.read(Unit(0, 0, 0, 30))
    for wrong in (f"{place}/lists/none.parquet", f"{place}/rows/part-0.parquet", "nonsense://a/b"):
        with pytest.raises(SourceError, match=wrong):
            opened(wrong)


def say(*arguments: object) -> str:
    """What a command says, run in this process."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    return " ".join((done.output + done.stderr).replace("│", " ").split())


def test_every_command_takes_a_url(manifest: Path, place: StorePath, tmp_path: Path) -> None:
    out = place / "run"
    done = call("run", manifest, "--out", out, "--local")
    assert done.returncode == 0, done.stderr
    assert "6 of 6 units; 22 kept, 0 dropped, 2 failed" in done.stdout
    assert f"report: {out}/report/index.html" in done.stderr
    assert "6 of 6 units done; finished" in say("status", out)
    assert "6 of 6 units verified, 0 mistakes" in say("verify", out)
    assert b"noise 1 11" in (out / "report" / "index.html").read_bytes()
    assert f"{out}/report/index.html" in say("report", out, "--samples", 3)
    assert b"noise 1 11" not in (out / "report" / "index.html").read_bytes()


@pytest.mark.parametrize("split", [(), ("--split", "train=1,validation=1")])
def test_a_run_is_packed_from_a_store_into_a_store_and_read_where_it_was_to_go(
    prepared: Prepare, place: StorePath, split: Sequence[str]
) -> None:
    run(prepared(40), place / "run")
    command = ("pack", place / "run", "--out", place / "large", "--shard-bytes", "50kB", *split)
    assert "5 units packed by this call" in say(*command)
    assert "0 units packed by this call" in say(*command)
    sides = [place / "large" / name for name in ("train", "validation")] if split else [place / "large"]
    kept = 0
    for side in sides:
        assert verify(Layout(side))[0] == []
        kept += sum(record.kept for record in Layout(side).unit_records())
        assert "finished" in say("status", side)
    assert kept == sum(record.kept for record in Layout(place / "run").unit_records())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["status", "s3://shelf/nothing"], "s3://shelf/nothing holds no run"),
        (["verify", "s3://no-such-bucket/run"], "s3://no-such-bucket/run/run.json: the store has no such bucket"),
        (["run", "{manifest}", "--local", "--out", "s3://no-such-bucket/run"], "the store has no such bucket; create"),
        (["run", "{manifest}", "--local", "--out", "nonsense://a/b"], "nonsense://a/b: cannot be opened"),
    ],
)
def test_what_a_user_can_correct_is_one_message(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    done = CliRunner().invoke(app, [argument.format(manifest=manifest) for argument in arguments])
    assert done.exit_code == 2 and says in " ".join(done.stderr.replace("│", " ").split())


def test_paths_in_a_store_and_on_a_disk_are_told_apart(tmp_path: Path) -> None:
    assert isinstance(open_path("s3://shelf/run"), StorePath) and isinstance(open_path("shelf/run"), Path)
