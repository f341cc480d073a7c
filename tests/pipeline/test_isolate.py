"""Records that take their worker with them, and deaths that are no record's fault."""

import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray

from pipeline.actor import FatalError
from pipeline.cluster import RayOptions, run_on_ray
from pipeline.isolate import isolate
from pipeline.ledger import Layout
from pipeline.live import Live
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import Executor, Outcome, Prepared, execute
from pipeline.verify import verify
from tests.pipeline.driver import Drive

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

Prepare = Callable[..., Prepared]
Sums = Callable[[Path], dict[str, str]]


def run(prepared: Prepared, out: Path, executor: Executor) -> Outcome:
    with open(os.devnull, "w") as nowhere:
        return execute(prepared, out, executor, LineProgress(nowhere))


def on_ray(job: Any, units: Any) -> Any:
    return run_on_ray(job, units, RayOptions(workers=2))


def alone(job: Any, units: Any) -> Any:
    """As if every unit's worker had died twice."""
    return isolate(job, units, parallel=2, live=Live())


@ray.remote
class Other:
    """Another job's worker, which takes all the CPUs there are."""

    def ready(self) -> None: ...


def test_a_wait_for_what_other_jobs_hold_is_told(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("pipeline.isolate._TELL_EVERY_S", 1.0)
    other = Other.options(num_cpus=ray.cluster_resources()["CPU"]).remote()
    ray.get(other.ready.remote())

    class GiveBack(logging.Handler):
        """Have the other job end once its holding is told."""

        def emit(self, record: logging.LogRecord) -> None:
            ray.kill(other)

    log, give_back = logging.getLogger("pipeline.isolate"), GiveBack()
    log.addHandler(give_back)
    try:
        assert run(prepared(8), tmp_path / "out", alone) == Outcome(units=1, left=0)
    finally:
        log.removeHandler(give_back)
    assert "reserves 1 CPU, and 0 CPU are free in the cluster now. It goes on when" in caplog.text


def failed(out: Path, reason: str) -> set[int]:
    layout = Layout(out)
    rejects = [row for name in layout.committed() for row in pq.read_table(layout.rejects(name)).to_pylist()]
    return {row["row"] for row in rejects if row["reason"] == reason}


def test_a_unit_alone_gives_the_bytes_it_gives_in_company(prepared: Prepare, tmp_path: Path, shard_sums: Sums) -> None:
    run(prepared(24), tmp_path / "together", run_local)
    assert run(prepared(24), tmp_path / "alone", alone) == Outcome(units=3, left=0)
    assert shard_sums(tmp_path / "alone") == shard_sums(tmp_path / "together")
    steps = [
        [(s.node, s.records_in, s.records_out) for s in r.steps] for r in Layout(tmp_path / "alone").unit_records()
    ]
    assert steps == [
        [(s.node, s.records_in, s.records_out) for s in r.steps] for r in Layout(tmp_path / "together").unit_records()
    ]


@pytest.mark.fire
def test_every_way_to_die_is_found_also_several_in_a_unit_and_in_a_batch(prepared: Prepare, tmp_path: Path) -> None:
    hazards = "{hazards: {'1': segfault, '2': exit, '6': kill, '12': ask_for_too_much, '17': kill}}"
    assert run(prepared(24, params=hazards), tmp_path / "out", alone) == Outcome(units=3, left=0)
    assert failed(tmp_path / "out", "worker_crash") == {1, 2, 6, 12, 17}
    layout = Layout(tmp_path / "out")
    assert sum(record.kept for record in layout.unit_records()) == 24 - 5 - 4
    assert verify(layout) == ([], 3, 3)
    assert not list((layout.root / "isolation").iterdir())


@pytest.mark.fire
def test_an_isolation_that_dies_with_its_worker_goes_on_to_the_same_end(prepared: Prepare, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    hazards = f"{{hazards: {{'2': kill_with_driver, '6': kill_with_driver}}, tally: {tally}, times: 100}}"
    assert run(prepared(8, params=hazards), tmp_path / "out", alone) == Outcome(units=1, left=0)
    assert failed(tmp_path / "out", "worker_crash") == {2, 6}
    assert len(tally.read_bytes()) in (5, 6)  # once in a batch, or in one each, and each twice alone
    assert not list((tmp_path / "out" / "isolation").iterdir())


@pytest.mark.parametrize("times", [1, 2])
def test_who_lives_through_a_second_try_is_not_guilty(
    prepared: Prepare, tmp_path: Path, shard_sums: Sums, times: int
) -> None:
    tally = tmp_path / "tally"
    params = f"{{hazards: {{'6': kill}}, tally: {tally}, times: {times}}}"
    tally.write_bytes(b"x" * times)
    run(prepared(8, params=params), tmp_path / "quiet", run_local)
    tally.unlink()
    assert run(prepared(8, params=params), tmp_path / "out", alone).left == 0
    assert len(tally.read_bytes()) == times
    assert not failed(tmp_path / "out", "worker_crash")
    assert shard_sums(tmp_path / "out") == shard_sums(tmp_path / "quiet")


def test_a_stage_that_takes_units_whole_has_the_rest_of_one_together(prepared: Prepare, tmp_path: Path) -> None:
    target = prepared(8, params="{hazards: {'4': kill, '6': kill}}", first="paint_whole")
    assert run(target, tmp_path / "out", alone).left == 0
    assert failed(tmp_path / "out", "worker_crash") == {4, 6}
    (record,) = Layout(tmp_path / "out").unit_records()
    assert (record.kept, record.steps[0].records_in, record.steps[0].batches.count) == (8 - 2 - 2, 8, 1)
    assert verify(Layout(tmp_path / "out"))[0] == []


def test_a_stage_that_dies_of_a_whole_unit_and_of_no_record_alone_ends_the_run(
    prepared: Prepare, tmp_path: Path
) -> None:
    params = f"{{hazards: {{'6': kill}}, tally: {tmp_path / 'tally'}, times: 2}}"
    target = prepared(8, params=params, first="paint_whole")
    with pytest.raises(FatalError, match=r"takes units whole, and its worker dies .* 8 records\), but on none of its"):
        run(target, tmp_path / "out", alone)


def test_a_worker_that_dies_of_loading_ends_the_run(prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"nodes paint\+name: the worker dies before it has begun"):
        run(prepared(8, params="{load_error: death}"), tmp_path / "out", alone)


@pytest.mark.fire
def test_when_record_after_record_kills_its_worker_the_run_stops(prepared: Prepare, tmp_path: Path) -> None:
    target = prepared(8, params="{hazards: {'4': kill, '6': kill, '7': kill}}", extra="max_consecutive_failures: 2")
    with pytest.raises(FatalError, match=r"node 'paint' lost its worker to 2 records in a row \(worker_crash\)"):
        run(target, tmp_path / "out", alone)


@pytest.mark.fire
def test_a_record_that_hangs_is_found_and_its_neighbours_saved(prepared: Prepare, tmp_path: Path) -> None:
    target = prepared(16, params="{hazards: {'2': hang, '12': hang_in_c}}", paint="batch_deadline_s: 1.5")
    assert run(target, tmp_path / "out", alone) == Outcome(units=2, left=0)
    assert failed(tmp_path / "out", "worker_hang") == {2, 12}
    assert sum(record.kept for record in Layout(tmp_path / "out").unit_records()) == 16 - 2 - 3


def test_without_ray_a_hang_ends_the_run_with_unit_node_and_keys(tmp_path: Path) -> None:
    settings = {"params": "{hazards: {'12': hang}}", "paint": "batch_deadline_s: 0.5"}
    drive = Drive(out=str(tmp_path / "out"), rows=16, settings=settings)
    done = subprocess.run(drive.command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1
    assert (
        "error: unit 000001, node 'paint' did not return within 0.5 s from records 000000000000_000000012"
        in done.stderr
    )
    assert "raise its batch_deadline_s" in done.stderr and "in _hang" in done.stderr
    assert Layout(tmp_path / "out").committed() == ["000000"]


@pytest.mark.fire
def test_an_interrupted_isolation_is_taken_up_at_once(prepared: Prepare, tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    params = f"{{hazards: {{'6': kill}}, tally: {tally}, times: 100}}"
    assert run(prepared(16, params=params), tmp_path / "out", on_ray).left == 0
    first = len(tally.read_bytes())
    layout = Layout(tmp_path / "out")
    layout.unit("000000").unlink()
    layout.isolation("000000").write_text("[]")
    assert run(prepared(16, params=params), tmp_path / "out", on_ray).left == 0
    assert len(tally.read_bytes()) - first == 3 < first
