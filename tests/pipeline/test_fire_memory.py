"""A fast start and a slow end: what is under way stays within Ray's store, and what does not is told."""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from pipeline.cluster import RayOptions, run_on_ray
from pipeline.progress import LineProgress
from pipeline.run import Outcome, Prepared, execute
from pipeline.spill import spilled_bytes

pytestmark = [pytest.mark.ray, pytest.mark.fire]

Prepare = Callable[..., Prepared]
STORE = 100_000_000


@pytest.fixture
def small_store() -> Iterator[None]:
    ray.init(
        address="local",
        num_cpus=4,
        resources={"gpu_like": 1},
        object_store_memory=STORE,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@contextmanager
def store_watched() -> Iterator[list[int]]:
    """Bytes in the store, looked at often."""
    state, seen, over = get_state_from_address(ray.get_runtime_context().gcs_address), [0], threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            seen.append(get_memory_info_reply(state).store_stats.object_store_bytes_used)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def run(prepared: Prepared, out: Path) -> Outcome:
    def executor(job: Any, units: Any) -> Any:
        return run_on_ray(job, units, RayOptions())

    with open(os.devnull, "w") as nowhere:
        return execute(prepared, out, executor, LineProgress(nowhere))


def test_a_slow_last_stage_holds_the_fast_ones_back(
    prepared: Prepare, small_store: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three times the store's size goes through, at the pace of a stage that takes 0.2 s a unit."""
    slow = "- {id: look, stage: look, needs: [paint], batch_size: 8, resources: {gpu_like: 1}, params: {pause_s: 0.2}}"
    target = prepared(100 * 8, params="{side: 10000}", extra=slow)
    with store_watched() as seen, caplog.at_level(logging.WARNING, "pipeline.cluster"):
        assert run(target, tmp_path / "out") == Outcome(units=100, left=0)
    assert sum(path.stat().st_size for path in (tmp_path / "out" / "shards").glob("*.tar")) > 3 * STORE
    assert 0 < max(seen) <= STORE
    assert spilled_bytes() == 0 and "object store" not in caplog.text


def test_what_ray_spills_is_told(small_store: None, caplog: pytest.LogCaptureFixture) -> None:
    from pipeline.cluster import _tell_spilled

    held = [ray.put(os.urandom(20_000_000)) for _ in range(8)]
    assert spilled_bytes() >= 8 * 20_000_000 - STORE
    _tell_spilled(spilled_bytes())
    assert "GB from its object store to disk" in caplog.text
    del held
