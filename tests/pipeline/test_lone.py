"""Units alone on machines that go, do not come, and come late."""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from manifests.unit_record import UnitRecord
from pipeline.actor import FatalError
from pipeline.isolate import isolate
from pipeline.job import Job
from pipeline.journal import Journal
from pipeline.ledger import Layout
from pipeline.live import Live
from pipeline.local import run_local
from pipeline.lone import LoneGroup
from pipeline.progress import LineProgress
from pipeline.run import Executor, Outcome, Prepared, execute
from pipeline.sources.base import Unit

pytestmark = [pytest.mark.ray, pytest.mark.fire]

Prepare = Callable[..., Prepared]
STORE = 150_000_000


def machine(resource: str) -> dict[str, Any]:
    return {"num_cpus": 2, "resources": {resource: 1}, "object_store_memory": STORE}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that soon knows of a lost machine, and this process as its driver."""
    impatient = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000}
    head = {"num_cpus": 2, "object_store_memory": STORE, "include_dashboard": False, "_system_config": impatient}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def run(prepared: Prepared, out: Path, executor: Executor) -> Outcome:
    with open(os.devnull, "w") as nowhere:
        return execute(prepared, out, executor, LineProgress(nowhere))


def alone_here(job: Job, units: Sequence[Unit]) -> Iterator[UnitRecord]:
    """Each unit alone, driven by this process."""
    for unit in units:
        journal, work = Journal(Path(job.commit.root) / "isolation" / f"{unit.name}.json", "job"), job.read(unit)
        for position in range(len(job.plan.groups)):
            work = LoneGroup(job.plan, position, journal).run(work)
        journal.close()
        yield job.finish(work)


def test_what_is_lost_on_its_way_from_a_lone_worker_is_done_again(
    prepared: Prepare,
    cluster: Cluster,
    tmp_path: Path,
    shard_sums: Callable[[Path], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = tmp_path / "seen"
    settings = {"params": f"{{side: 4000, seen: {seen}}}", "paint": "resources: {spot: 1}"}
    run(prepared(8, **settings), tmp_path / "quiet", run_local)
    machines, lost, get = [cluster.add_node(**machine("spot"))], [], ray.get

    def get_late(ref: Any) -> Any:
        """What is asked for, after the machine that holds the first batch is lost."""
        ray.wait([ref], fetch_local=False)
        if any((seen / machines[0].node_id).glob("*")) and not lost:
            lost.append(machines[0].node_id)
            cluster.remove_node(machines[0], allow_graceful=False)
            machines.append(cluster.add_node(**machine("spot")))
        return get(ref)

    monkeypatch.setattr(ray, "get", get_late)
    assert run(prepared(8, **settings), tmp_path / "out", alone_here) == Outcome(units=1, left=0)
    assert lost and any((seen / machines[1].node_id).glob("*"))
    assert shard_sums(tmp_path / "out") == shard_sums(tmp_path / "quiet")


def test_a_machine_that_never_comes_ends_the_run_and_says_what_was_to_come(
    prepared: Prepare, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.room.PATIENCE_S", 1.0)
    monkeypatch.setattr("pipeline.room._LOOK_EVERY_S", 0.1)
    said = r"a worker of paint reserves 1 CPU, 1 moon, which none .* \(\d now, with at most 2 CPU, 0 moon\); none came"
    with pytest.raises(FatalError, match=said):
        run(prepared(8, paint="resources: {moon: 1}"), tmp_path / "out", alone_here)


def test_a_machine_that_comes_late_is_waited_for_and_the_wait_is_told(
    prepared: Prepare,
    cluster: Cluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("pipeline.isolate._TELL_EVERY_S", 1.0)

    class Bring(logging.Handler):
        """Bring the machine at the second word of its want."""

        def emit(self, record: logging.LogRecord) -> None:
            if len(caplog.records) == 2:
                cluster.add_node(**machine("late"))

    log = logging.getLogger("pipeline.isolate")
    bring = Bring()
    log.addHandler(bring)
    try:
        target = prepared(8, paint="resources: {late: 1}")
        done = run(target, tmp_path / "out", lambda job, units: isolate(job, units, parallel=1, live=Live()))
    finally:
        log.removeHandler(bring)
    assert done == Outcome(units=1, left=0) and Layout(tmp_path / "out").isolated() == []
    assert "a worker of paint reserves 1 CPU, 1 late, which none" in caplog.text and "up to 2 h" in caplog.text
