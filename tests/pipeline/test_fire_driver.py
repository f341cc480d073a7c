"""The driver killed at twenty points, and each time resumed, to the bytes of a quiet run."""

import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import ray

from pipeline.ledger import Layout
from pipeline.verify import verify
from tests.pipeline.driver import Drive

pytestmark = [pytest.mark.ray, pytest.mark.fire]

Sums = Callable[[Path], dict[str, str]]


@dataclass(frozen=True, slots=True)
class Sight:
    """What shows of a run from outside: units done, files half-written, and when isolation last took note."""

    done: int
    in_commit: bool
    isolation: tuple[int, ...]

    @classmethod
    def of(cls, layout: Layout) -> "Sight":
        half = any(path for folder in layout.folders if folder.is_dir() for path in folder.glob(".*.tmp"))
        notes = (layout.root / "isolation").glob("[0-9]*.json")
        return cls(len(layout.committed()), half, tuple(path.stat().st_mtime_ns for path in notes))


Moment = Callable[[Sight, Sight], bool]
"""Whether to strike, by what was seen at the start of the driver's life and what is seen now."""


def between(units: int) -> Moment:
    return lambda before, now: now.done >= before.done + units


def in_commit(units: int) -> Moment:
    return lambda before, now: now.done >= before.done + units and now.in_commit


def in_isolation(before: Sight, now: Sight) -> bool:
    return bool(now.isolation) and now.isolation != before.isolation


def live_until(drive: Drive, moment: Moment, delay_s: float) -> None:
    """One life of the driver: to the moment and a little further."""
    layout = Layout(Path(drive.out))
    before = Sight.of(layout)
    process = subprocess.Popen(drive.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not moment(before, Sight.of(layout)):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.001)
        time.sleep(delay_s)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode == -signal.SIGKILL


def finish(drive: Drive) -> None:
    done = subprocess.run(drive.command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def is_whole(out: Path, units: int) -> bool:
    rests = [*out.rglob("*.tmp"), *(out / "isolation").glob("*")]
    return not rests and verify(Layout(out)) == ([], units, units)


def test_killed_twelve_times_without_ray_at_any_point_of_a_commit(tmp_path: Path, shard_sums: Sums) -> None:
    def drive(name: str) -> Drive:
        return Drive(out=str(tmp_path / name), rows=48 * 8, settings={"params": "{pause_s: 0.01}"})

    finish(drive("quiet"))
    for seed in range(12):
        rng = random.Random(seed)
        moment = rng.choice([between, in_commit])(rng.randint(1, 3))
        live_until(drive("killed"), moment, delay_s=rng.choice([0, 0, rng.random() * 0.02]))
    finish(drive("killed"))
    assert shard_sums(tmp_path / "killed") == shard_sums(tmp_path / "quiet")
    assert is_whole(tmp_path / "killed", 48)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray that outlives its drivers, as a cluster does."""
    context = ray.init(
        address="local",
        num_cpus=4,
        object_store_memory=200_000_000,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield context.address_info["address"]
    ray.shutdown()


def test_killed_eight_times_on_ray_also_in_the_isolation_pass(address: str, tmp_path: Path, shard_sums: Sums) -> None:
    def drive(name: str) -> Drive:
        settings = {"params": "{hazards: {'21': kill}, pause_s: 0.05}"}
        return Drive(out=str(tmp_path / name), rows=30 * 8, settings=settings, address=address)

    finish(drive("quiet"))
    rng = random.Random(0)
    for moment in (between(1), in_commit(1), between(3), in_commit(2), between(2), *[in_isolation] * 3):
        live_until(drive("killed"), moment, delay_s=rng.random() * 0.5)
    finish(drive("killed"))
    assert shard_sums(tmp_path / "killed") == shard_sums(tmp_path / "quiet")
    assert is_whole(tmp_path / "killed", 30)
