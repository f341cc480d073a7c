"""The same job on Ray: equal bytes in any timing, and what a dying worker costs."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.actor import FatalError
from pipeline.cluster import (
    RayOptions,
    _dataset,
    _no_progress_s,
    _probe,
    _readers,
    _units_a_task,
    _UnitSource,
    run_on_ray,
)
from pipeline.ledger import Layout
from pipeline.live import Live
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import Executor, Outcome, Prepared, at_work, execute
from pipeline.verify import verify

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]

Prepare = Callable[..., Prepared]
Sums = Callable[[Path], dict[str, str]]


def run(prepared: Prepared, out: Path, executor: Executor) -> Outcome:
    with open(os.devnull, "w") as nowhere:
        return execute(prepared, out, executor, LineProgress(nowhere))


def on_ray(workers: int | None) -> Executor:
    return lambda job, units: run_on_ray(job, units, RayOptions(workers=workers))


def test_ray_and_local_write_the_same_bytes(prepared: Prepare, tmp_path: Path, shard_sums: Sums) -> None:
    run(prepared(60), tmp_path / "local", run_local)
    assert run(prepared(60), tmp_path / "ray", on_ray(2)) == Outcome(units=8, left=0)
    assert shard_sums(tmp_path / "ray") == shard_sums(tmp_path / "local")
    assert verify(Layout(tmp_path / "ray")) == ([], 8, 8)


@pytest.mark.slow
def test_a_task_reads_several_units_and_each_is_a_block_of_its_own(prepared: Prepare, tmp_path: Path) -> None:
    target = prepared(34 * 8)
    with at_work(target, Layout(tmp_path / "out")) as job:
        source = _UnitSource(job, target.units, _units_a_task(34, 4))
        dataset = _dataset(job, target.units, RayOptions(workers=1), Live())
        blocks = [block.num_rows for bundle in dataset.iter_internal_ref_bundles() for block in bundle.metadata]
    assert source.tasks == 17 and blocks == [1] * 34
    assert verify(Layout(tmp_path / "out")) == ([], 34, 34)


@given(units=st.integers(1, 10_000), readers=st.integers(1, 8))
def test_tasks_are_large_where_there_are_many_units_and_small_where_there_are_few(units: int, readers: int) -> None:
    size = _units_a_task(units, readers)
    assert 1 <= size <= 16
    assert size == 1 or size * 4 * readers <= units
    assert size == 16 or units < (size + 1) * 4 * readers


@given(units=st.integers(1, 10_000), cpus=st.integers(0, 512))
def test_readers_are_as_many_as_there_is_work_for(units: int, cpus: int) -> None:
    readers = _readers(units, cpus)
    assert 1 <= readers <= min(units, 8)
    assert readers <= 2 or (readers <= cpus and readers * 4 <= units)
    assert readers >= 2 or units == 1
    assert readers == 8 or readers == units or (readers + 1) * 4 > units or readers >= cpus


def test_while_a_run_goes_on_its_units_are_somewhere(prepared: Prepare, tmp_path: Path) -> None:
    seen: list[Mapping[str, int]] = []

    class Remembering(Live):
        def __setattr__(self, name: str, value: Any) -> None:
            Live.__setattr__(self, name, value)
            if name == "in_flight":
                seen.append(value)

    live = Remembering()
    run(
        prepared(60, params="{pause_s: 0.05}"),
        tmp_path / "out",
        partial(run_on_ray, options=RayOptions(workers=1), live=live),
    )
    counted = [places for places in seen if places]
    (workers,) = (group.name for group in prepared(60).plan.groups)
    assert all(
        places.keys() == {"source", f"before {workers}", workers} and min(places.values()) >= 0 for places in counted
    )
    assert 0 < max(max(places.values()) for places in counted) <= 8
    assert max(places[workers] for places in counted) > 0
    assert live.in_flight == {}


def test_a_worker_killed_once_costs_nothing(prepared: Prepare, tmp_path: Path, shard_sums: Sums) -> None:
    run(prepared(40), tmp_path / "local", run_local)
    params = f"{{hazards: {{'12': kill}}, tally: {tmp_path / 'killed'}}}"
    assert run(prepared(40, params=params), tmp_path / "ray", on_ray(1)).left == 0
    assert (tmp_path / "killed").exists()
    counts = [(record.kept, record.rejections) for record in Layout(tmp_path / "ray").unit_records()]
    assert counts == [(record.kept, record.rejections) for record in Layout(tmp_path / "local").unit_records()]


@pytest.mark.parametrize(
    "hazards",
    [
        {12: "kill"},
        pytest.param({12: "kill", 14: "segfault", 25: "exit"}, marks=pytest.mark.fire),
    ],
)
def test_rows_that_always_kill_their_worker_are_found_and_their_neighbours_saved(
    hazards: dict[int, str], prepared: Prepare, tmp_path: Path
) -> None:
    deadly = ", ".join(f"'{row}': {how}" for row, how in hazards.items())
    outcome = run(prepared(40, params=f"{{hazards: {{{deadly}}}}}"), tmp_path / "out", on_ray(len(hazards)))
    assert outcome == Outcome(units=5, left=0)
    layout = Layout(tmp_path / "out")
    rejects = [row for name in layout.committed() for row in pq.read_table(layout.rejects(name)).to_pylist()]
    guilty = {row["row"] for row in rejects if row["reason"] == "worker_crash"}
    assert guilty == set(hazards)
    assert sum(record.kept for record in layout.unit_records()) == 40 - len(rejects) == 40 - 4 - 2 - len(hazards)
    assert verify(layout) == ([], 5, 5)
    assert not list((layout.root / "isolation").iterdir())


def test_a_bug_in_a_stage_ends_the_run(prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="NameError: name 'x' is not defined"):
        run(prepared(40, params="{raises: [12], error: NameError}"), tmp_path / "out", on_ray(1))


def test_a_stage_that_cannot_be_loaded_ends_the_run(prepared: Prepare, tmp_path: Path) -> None:
    with pytest.raises(FatalError, match=r"node 'paint' .* cannot be loaded: ImportError"):
        run(prepared(40, params="{load_error: ImportError}"), tmp_path / "out", on_ray(1))


def test_a_plan_that_this_machine_can_never_run_is_refused(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(FatalError, match=r"reserve 99 CPU at once, this machine has 4; lower num_cpus"):
        run(prepared(800), tmp_path / "out", on_ray(99))


def test_a_slow_unit_has_the_time_that_its_deadlines_give_it(prepared: Prepare, tmp_path: Path) -> None:
    paint, name = "batch_deadline_s: 9000, load_deadline_s: 100", "batch_deadline_s: 10, load_deadline_s: 200"
    with at_work(prepared(8, paint=paint, name=name), Layout(tmp_path / "out")) as job:
        assert _no_progress_s(job, rows=5) == (2 * 9000 + 100) + (10 + 200) + 3600


@pytest.mark.fire
def test_a_run_that_stands_still_ends_with_a_message(
    prepared: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cluster._no_progress_s", lambda job, rows: 2.0)
    with pytest.raises(FatalError, match=r"no unit has come any further for 0\.0 h"):
        run(prepared(8, params="{pause_s: 30}"), tmp_path / "out", on_ray(1))


def test_an_address_nobody_answers_at_is_told() -> None:
    with pytest.raises(FatalError, match=r"no Ray answers at 127\.0\.0\.1:1: "):
        _probe("127.0.0.1:1")
