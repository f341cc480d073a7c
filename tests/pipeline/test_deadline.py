"""Disks that do not answer: a pipe that nobody writes to stands for a hung mount."""

import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from manifests.unit_record import UnitRecord
from pipeline.actor import FatalError
from pipeline.cluster import RayOptions, run_on_ray
from pipeline.deadline import OverdueError, within
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import Executor, Outcome, Prepared, execute
from tests.pipeline.driver import Drive

Prepare = Callable[..., Prepared]
Sums = Callable[[Path], dict[str, str]]

READ_SOON = "read_deadline_s: 1"
COMMIT_SOON = "sink: {commit_deadline_s: 1}"


def run(prepared: Prepared, out: Path, executor: Executor = run_local) -> Outcome:
    with open(os.devnull, "w") as nowhere:
        return execute(prepared, out, executor, LineProgress(nowhere))


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_what_returns_in_time_is_as_if_called() -> None:
    assert within(30, "late", lambda: 7) == 7
    with pytest.raises(KeyError, match="gone"):
        within(30, "late", lambda: {}["gone"])


def test_what_does_not_is_given_up_and_its_place_told() -> None:
    released = threading.Event()
    with pytest.raises(OverdueError, match=r"it did not come within 0.1 s; it is at threading.py:\d+ wait"):
        within(0.1, "it did not come", released.wait)
    released.set()


def test_a_source_that_hangs_ends_the_run_and_the_next_goes_on(
    prepared: Prepare, pipe: Path, tmp_path: Path, shard_sums: Sums
) -> None:
    drive = Drive(out=str(tmp_path / "out"), rows=24, settings={"source": READ_SOON}, pipe=str(pipe))
    done = subprocess.run(drive.command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, "a process ends though a thread of its hangs"
    assert "error: cannot read the source: unit 000001 of part0 did not come within 1 s; it is at" in done.stderr
    assert "raise source.read_deadline_s" in done.stderr and "Traceback" not in done.stderr
    assert Layout(tmp_path / "out").committed() == ["000000"]
    pipe.unlink()
    resumed = subprocess.run(drive.command, capture_output=True, text=True, timeout=120)
    assert resumed.returncode == 0, resumed.stderr
    run(prepared(24), tmp_path / "undisturbed")
    assert shard_sums(tmp_path / "out") == shard_sums(tmp_path / "undisturbed")


class Blocking(LineProgress):
    """Once a unit is committed, the file that every commit looks at is a pipe."""

    def update(self, record: UnitRecord) -> None:
        if record.unit == 0:
            os.mkfifo(Layout(self.out).lease(2))

    out: Path


def test_a_commit_that_hangs_ends_the_run_and_the_next_goes_on(
    prepared: Prepare, tmp_path: Path, shard_sums: Sums
) -> None:
    out = tmp_path / "out"
    with open(os.devnull, "w") as nowhere:
        blocking = Blocking(nowhere)
        blocking.out = out
        with pytest.raises(
            FatalError, match=r"cannot write unit 000001 to .*it was not written within 1 s.*commit_deadl"
        ):
            execute(prepared(24, extra=COMMIT_SOON), out, run_local, blocking)
    assert Layout(out).committed() == ["000000"]
    Layout(out).lease(2).unlink()
    assert run(prepared(24), out).left == 0, "another deadline makes no other run"
    run(prepared(24), tmp_path / "undisturbed")
    assert shard_sums(out) == shard_sums(tmp_path / "undisturbed")


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_on_ray_too_a_hanging_source_is_told_at_once(
    prepared: Prepare, monkeypatch: pytest.MonkeyPatch, pipe: Path, tmp_path: Path, shard_sums: Sums
) -> None:
    import pipeline.run
    from pipeline.run import prepare
    from tests.pipeline.toys import Hanging, manifest

    run(prepared(24), tmp_path / "undisturbed")
    monkeypatch.setattr(pipeline.run, "open_source", lambda source: Hanging(str(pipe), 12, 24))

    def on_ray() -> Outcome:
        options = RayOptions(workers=1)
        settled = prepare(manifest(source=READ_SOON))
        return run(settled, tmp_path / "out", lambda job, units: run_on_ray(job, units, options))

    with pytest.raises(FatalError, match="cannot read the source: unit 000001 of part0 did not come within 1 s"):
        on_ray()
    pipe.unlink()
    assert on_ray().left == 0
    assert shard_sums(tmp_path / "out") == shard_sums(tmp_path / "undisturbed")
