"""Start, resume, refuse; local execution."""

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from manifests.record import ModelUse
from manifests.shard import record_from_members
from manifests.tar import read_samples
from manifests.unit_record import UnitRecord
from pipeline.actor import FatalError
from pipeline.job import Job
from pipeline.lease import current
from pipeline.ledger import Layout, ResumeError
from pipeline.local import run_local
from pipeline.progress import JsonProgress, LineProgress
from pipeline.run import Executor, Outcome, Prepared, execute
from pipeline.sources.base import SourceError, Unit
from pipeline.verify import verify
from tests.pipeline.toys import Paint

Prepare = Callable[..., Prepared]
Sums = Callable[[Path], dict[str, str]]


def run(prepared: Prepared, out: Path, executor: Executor = run_local) -> Outcome:
    with open(os.devnull, "w") as nowhere:
        return execute(prepared, out, executor, LineProgress(nowhere))


def stopping_after(count: int) -> Executor:
    def executor(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
        for number, record in enumerate(run_local(job, units)):
            if number == count:
                raise KeyboardInterrupt
            yield record

    return executor


def test_rows_are_all_accounted_for_and_shards_verify(prepared: Prepare, tmp_path: Path) -> None:
    assert run(prepared(20, 5), tmp_path / "out") == Outcome(units=4, left=0)
    layout = Layout(tmp_path / "out")
    records = list(layout.unit_records())
    assert sum(record.rows for record in records) == 25
    for record in records:
        assert record.kept + sum(rejection.count for rejection in record.rejections) == record.rows
    assert verify(layout) == ([], 4, 4)


def test_a_sample_reads_back_as_its_record(prepared: Prepare, tmp_path: Path) -> None:
    run(prepared(8), tmp_path / "out")
    with Layout(tmp_path / "out").tar("000000").open("rb") as file:
        samples = dict(read_samples(file))
    record = record_from_members(samples["000000000000_000000002"])
    assert record.caption == "number 2" and record.image and (record.image.width, record.image.height) == (32, 24)
    assert [step.node for step in record.steps] == ["paint", "name"]
    assert json.loads(record.steps[0].params)["drops"] == [3]


def test_a_unit_that_keeps_nothing_is_still_a_shard(prepared: Prepare, tmp_path: Path) -> None:
    run(prepared(3, params="{drops: [0, 1, 2]}"), tmp_path / "out")
    assert verify(Layout(tmp_path / "out")) == ([], 1, 1)
    assert Layout(tmp_path / "out").tar("000000").stat().st_size == 10240


def test_an_interrupted_run_resumes_to_the_same_bytes(prepared: Prepare, tmp_path: Path, shard_sums: Sums) -> None:
    run(prepared(40), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(prepared(40), tmp_path / "cut", stopping_after(2))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "units").iterdir()}
    assert len(before) == 3
    assert run(prepared(40), tmp_path / "cut").left == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert shard_sums(tmp_path / "cut") == shard_sums(tmp_path / "whole")


def test_what_a_killed_run_left_half_written_is_swept_away(prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(prepared(16), tmp_path / "out", stopping_after(0))
    layout = Layout(tmp_path / "out")
    layout.unit("000000").unlink()
    layout.tar("000000").write_bytes(b"torn")
    (layout.root / "shards" / ".000001.tar.abc.tmp").write_bytes(b"half")
    run(prepared(16), tmp_path / "out")
    assert not list(layout.root.rglob("*.tmp"))
    assert verify(layout) == ([], 2, 2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"params": "{drops: [4]}"}, "node paint: drops was [3], is [4]\n"),
        ({"extra": "sink: {buckets: [1.0]}"}, "sink: buckets was [0.5, 0.75, 1.0, 1.5, 2.0], is [1.0]\n"),
        ({"seed": 8}, "seed: was 7, is 8"),
        ({"limit": 12}, "limit: was none, is 12"),
    ],
)
def test_a_changed_run_refuses_to_resume_and_says_what_changed(
    prepared: Prepare, tmp_path: Path, settings: dict[str, Any], says: str
) -> None:
    run(prepared(16), tmp_path / "out")
    with pytest.raises(ResumeError) as caught:
        run(prepared(16, **settings), tmp_path / "out")
    assert says in str(caught.value) and "give a new folder with --out" in str(caught.value)


def test_a_changed_source_refuses_to_resume(prepared: Prepare, tmp_path: Path) -> None:
    run(prepared(16), tmp_path / "out")
    with pytest.raises(ResumeError, match=r"source part0: was 16 rows, .* is 17 rows"):
        run(prepared(17), tmp_path / "out")


def test_a_raised_stage_version_refuses_to_resume(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(prepared(8), tmp_path / "out")
    monkeypatch.setattr(Paint, "version", 2)
    with pytest.raises(ResumeError, match=r"node paint: was paint version 1.* is paint version 2"):
        run(prepared(8), tmp_path / "out")


def test_a_changed_model_refuses_to_resume(prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def models(revision: str) -> Any:
        return classmethod(lambda cls, params: (ModelUse(name="painter", revision=revision),))

    monkeypatch.setattr(Paint, "models", models("a1"))
    run(prepared(8), tmp_path / "out")
    monkeypatch.setattr(Paint, "models", models("b2"))
    with pytest.raises(ResumeError, match="model painter of node paint: was a1, is b2"):
        run(prepared(8), tmp_path / "out")


def test_a_folder_with_other_files_is_not_touched(prepared: Prepare, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ResumeError, match="is not empty and holds no run"):
        run(prepared(8), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_runs_into_one_folder_are_refused(prepared: Prepare, tmp_path: Path) -> None:
    holding, go = threading.Event(), threading.Event()

    def slow(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
        holding.set()
        assert go.wait(30)
        yield from run_local(job, units)

    first = prepared(8)
    thread = threading.Thread(target=lambda: run(first, tmp_path / "out", slow))
    thread.start()
    assert holding.wait(30)
    try:
        held = current(Layout(tmp_path / "out"))
        assert held and held.is_alive
        with pytest.raises(ResumeError, match="another run is writing here"):
            run(prepared(8), tmp_path / "out")
    finally:
        go.set()
        thread.join()
    assert current(Layout(tmp_path / "out")) is None


def test_a_worker_left_over_from_a_killed_run_cannot_commit(prepared: Prepare, tmp_path: Path) -> None:
    jobs: list[Job] = []

    def remembering(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
        jobs.append(job)
        return run_local(job, units)

    run(prepared(16, limit=16), tmp_path / "out", remembering)

    def written() -> dict[Path, int]:
        found = (path for folder in Layout(tmp_path / "out").folders for path in Path(str(folder)).iterdir())
        return {path: path.stat().st_mtime_ns for path in found}

    before = written()
    run(prepared(16, limit=16), tmp_path / "out")
    with pytest.raises(FatalError, match="another run has taken this folder over"):
        list(run_local(jobs[0], prepared(16, limit=16).units))
    assert written() == before


def test_a_run_killed_before_its_first_file_can_be_started_again(prepared: Prepare, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".run.json.0123.tmp").write_bytes(b"{")
    assert run(prepared(8), tmp_path / "out").left == 0
    assert not list((tmp_path / "out").glob(".run.json*"))


def test_a_file_in_the_folder_s_place_is_told(prepared: Prepare, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ResumeError, match="is no folder"):
        run(prepared(8), tmp_path / "out")


def test_no_rows_is_an_error_and_writes_nothing(prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="the source has no rows"):
        prepared(0)


def test_a_fatal_error_keeps_what_is_committed(prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="NameError"):
        run(prepared(24, params="{raises: [12], error: NameError}"), tmp_path / "out")
    assert Layout(tmp_path / "out").committed() == ["000000"]


def test_an_unwritable_folder_is_told(prepared: Prepare, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(prepared(8, limit=1), out)
    target = prepared(8, limit=1)
    Layout(out).unit("000000").unlink()
    Layout(out).tar("000000").unlink()
    Layout(out).tar("000000").mkdir()
    with pytest.raises(FatalError, match="cannot write unit 000000 to"):
        run(target, out)
    assert not Layout(out).committed()


def test_progress_in_json_adds_up(prepared: Prepare, tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        execute(prepared(20), tmp_path / "out", run_local, JsonProgress(log))
    events = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [event["event"] for event in events] == ["start", "unit", "unit", "unit", "stop"]
    last = events[-1]
    assert last["kept"] + last["dropped"] + last["failed"] == 20
