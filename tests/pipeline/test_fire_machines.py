"""Workers shot, a machine lost with what it holds, a worker above Ray's memory threshold: the bytes stay."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import ray
from ray.cluster_utils import Cluster

from pipeline.cluster import RayOptions, run_on_ray
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import Executor, Outcome, Prepared, execute
from pipeline.verify import verify
from tests.pipeline.driver import Drive

pytestmark = [pytest.mark.ray, pytest.mark.fire]

Prepare = Callable[..., Prepared]
Sums = Callable[[Path], dict[str, str]]
STORE = 150_000_000
UNITS = 20


def run(prepared: Prepared, out: Path, executor: Executor) -> Outcome:
    with open(os.devnull, "w") as nowhere:
        return execute(prepared, out, executor, LineProgress(nowhere))


def on_ray(job: Any, units: Any) -> Any:
    return run_on_ray(job, units, RayOptions())


@contextmanager
def beside(work: Callable[[], None]) -> Iterator[None]:
    """Do work in a thread, and fail with what it fails with."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


def wait_for(there: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not there():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


@pytest.fixture
def alone() -> Iterator[Callable[..., None]]:
    """Start a Ray of this test's own, with settings of the kind that only a start can have."""

    def start(**system: Any) -> None:
        ray.init(
            address="local",
            num_cpus=4,
            object_store_memory=STORE,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _system_config=system,
        )

    yield start
    ray.shutdown()


def workers() -> list[psutil.Process]:
    """Ray's workers of this test that have a stage, by what they call themselves."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "MapWorker(MapBatches(_GroupWorker))" in " ".join(_line(child))]


def _line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []


def test_workers_shot_at_random_cost_no_record_and_change_no_byte(
    prepared: Prepare, alone: Callable[..., None], tmp_path: Path, shard_sums: Sums
) -> None:
    def target() -> Prepared:
        return prepared(200, params="{pause_s: 0.05}", paint="workers: 2")

    run(target(), tmp_path / "quiet", run_local)
    alone()
    shot: list[int] = []
    layout = Layout(tmp_path / "shot")

    def shoot() -> None:
        rng = random.Random(5)
        for victims in range(1, 5):
            wait_for(lambda victims=victims: len(layout.committed()) >= 4 * victims and bool(workers()))
            victim = rng.choice(workers())
            victim.send_signal(signal.SIGKILL)
            shot.append(victim.pid)

    with beside(shoot):
        assert run(target(), layout.root, on_ray) == Outcome(units=25, left=0)
    assert len(set(shot)) == 4
    assert shard_sums(layout.root) == shard_sums(tmp_path / "quiet")
    assert verify(layout) == ([], 25, 25)


def test_a_lost_machine_with_workers_and_blocks_is_replaced_and_nothing_is_lost(
    tmp_path: Path, shard_sums: Sums
) -> None:
    """Painting happens on the machine that is lost; a unit's pictures are too large to travel outside its store."""
    seen = tmp_path / "seen"
    machine = {"num_cpus": 2, "resources": {"spot": 1}, "object_store_memory": STORE}

    def drive(name: str, address: str | None) -> Drive:
        settings = {
            "params": f"{{side: 200, seen: {seen}, pause_s: 0.02}}",
            "paint": "resources: {spot: 1}",
            "extra": "- {id: look, stage: look, needs: [paint], params: {pause_s: 0.2}}",
        }
        return Drive(out=str(tmp_path / name), rows=UNITS * 8, settings=settings, address=address)

    assert subprocess.run(drive("quiet", None).command, capture_output=True).returncode == 0
    impatient = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000}
    head = {"num_cpus": 2, "object_store_memory": STORE, "_system_config": impatient}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    layout = Layout(tmp_path / "lost")
    try:
        doomed = cluster.add_node(**machine)
        with subprocess.Popen(drive("lost", cluster.address).command, stdout=subprocess.DEVNULL) as process:
            try:
                wait_for(
                    lambda: len(layout.committed()) >= 2 and painted(seen, doomed) >= 8 * (len(layout.committed()) + 3)
                )
                cluster.remove_node(doomed, allow_graceful=False)
                cluster.add_node(**machine)
                assert process.wait() == 0
            finally:
                process.kill()
    finally:
        cluster.shutdown()
    assert len(list(seen.iterdir())) == 2 and painted(seen, doomed) >= 40
    assert shard_sums(layout.root) == shard_sums(tmp_path / "quiet")
    assert verify(layout) == ([], UNITS, UNITS)


def painted(seen: Path, machine: Any) -> int:
    return sum(1 for _ in (seen / machine.node_id).glob("*"))


@pytest.mark.parametrize("times", [1, 1000])
def test_who_is_shot_for_taking_memory_is_failed_only_if_it_does_so_every_time(
    prepared: Prepare, alone: Callable[..., None], tmp_path: Path, times: int
) -> None:
    memory = psutil.virtual_memory()
    if memory.available < 8e9:
        pytest.skip("this machine has too little free memory to be overfilled safely")
    threshold = 1 - 0.6 * memory.available / memory.total
    alone(memory_usage_threshold=threshold, memory_monitor_refresh_ms=50)
    tally = tmp_path / "tally"
    params = f"{{hazards: {{'12': hog}}, tally: {tally}, times: {times}}}"
    assert run(prepared(24, params=params), tmp_path / "out", on_ray) == Outcome(units=3, left=0)
    layout = Layout(tmp_path / "out")
    rejects = [row for name in layout.committed() for row in pq.read_table(layout.rejects(name)).to_pylist()]
    assert [row["row"] for row in rejects if row["reason"] == "worker_crash"] == ([12] if times > 1 else [])
    assert tally.stat().st_size == (1 if times == 1 else 5)
