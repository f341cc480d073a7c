"""A fast start and a slow end: what is under way stays within Ray's store, and what does not is told."""

import io
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families
from ray._private.internal_api import get_memory_info_reply, get_state_from_address

from pipeline.cluster import RayOptions, run_on_ray
from pipeline.lease import spilled
from pipeline.ledger import Layout
from pipeline.live import Live
from pipeline.metrics_export import MetricsFile
from pipeline.progress import JsonProgress, LineProgress, Together
from pipeline.run import Outcome, Prepared, execute
from pipeline.spill import spilled_bytes, watching_spills

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


def run(prepared: Prepared, out: Path, live: Live) -> Outcome:
    def executor(job: Any, units: Any) -> Any:
        return run_on_ray(job, units, RayOptions(), live)

    with open(os.devnull, "w") as nowhere:
        return execute(prepared, out, executor, LineProgress(nowhere))


def test_a_slow_last_stage_holds_the_fast_ones_back(
    prepared: Prepare, small_store: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Three times the store's size goes through, at the pace of a stage that takes 0.2 s a unit."""
    slow = "- {id: look, stage: look, needs: [paint], batch_size: 8, resources: {gpu_like: 1}, params: {pause_s: 0.2}}"
    target = prepared(100 * 8, params="{side: 10000}", extra=slow)
    places: list[Mapping[str, int]] = []

    class Remembering(Live):
        def __setattr__(self, name: str, value: Any) -> None:
            Live.__setattr__(self, name, value)
            if name == "in_flight" and value:
                places.append(value)

    with store_watched() as seen, caplog.at_level(logging.WARNING, "pipeline.cluster"):
        assert run(target, tmp_path / "out", Remembering()) == Outcome(units=100, left=0)
    workers = ("paint", "look", "name")
    assert all(list(found) == ["source", *(n for w in workers for n in (f"before {w}", w))] for found in places)
    assert min(min(found.values()) for found in places) >= 0 < max(found["look"] for found in places)
    assert 0 < max(found["before look"] for found in places) < 50, "what has pictures does not pile up"
    assert sum(path.stat().st_size for path in (tmp_path / "out" / "shards").glob("*.tar")) > 3 * STORE
    assert 0 < max(seen) <= STORE
    assert spilled_bytes() == 0 and "object store" not in caplog.text


def test_what_a_run_spills_is_told_in_its_metrics_its_log_and_its_folder(
    prepared: Prepare, small_store: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else fills the store after the first unit, with more than it holds."""
    live, said, file = Live(), io.StringIO(), tmp_path / "inlay.prom"
    held: list[Any] = []

    def executor(job: Any, units: Any) -> Any:
        for record in run_on_ray(job, units, RayOptions(), live):
            if not held:
                held.extend(ray.put(os.urandom(20_000_000)) for _ in range(8))
            yield record

    progress = Together(MetricsFile(file, live=live), JsonProgress(said, live))
    assert execute(prepared(24), tmp_path / "out", executor, progress, live=live).left == 0
    assert live.spilled >= 8 * 20_000_000 - STORE
    assert spilled(Layout(tmp_path / "out")) == live.spilled
    (sample,) = [
        sample
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
        if sample.name == "inlay_spilled_bytes_total"
    ]
    assert sample.value == live.spilled
    assert json.loads(said.getvalue().splitlines()[-1])["spilled_bytes"] == live.spilled
    assert "GB from its object store to disk" in caplog.text


def test_only_what_is_spilled_from_then_on_counts(small_store: None) -> None:
    before = [ray.put(os.urandom(20_000_000)) for _ in range(8)]
    live = Live()
    with watching_spills(live):
        pass
    assert spilled_bytes() and live.spilled == 0
    with watching_spills(live):
        after = [ray.put(os.urandom(20_000_000)) for _ in range(4)]
    assert live.spilled > 0
    del before, after
