"""A disk that fills up and a folder that turns read-only: a clear message, nothing half-written, and a resume."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.ledger import Layout
from pipeline.verify import verify
from tests.pipeline.driver import Drive

pytestmark = pytest.mark.fire

Sums = Callable[[Path], dict[str, str]]
UNITS = 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def drive(out: Path, pause_s: float = 0.0) -> Drive:
    """160 rows in 20 units of about 160 kB."""
    return Drive(out=str(out), rows=UNITS * 8, settings={"params": f"{{side: 200, pause_s: {pause_s}}}"})


def ended(drive: Drive) -> subprocess.CompletedProcess[str]:
    return subprocess.run(drive.command, capture_output=True, text=True)


def test_a_disk_that_is_full_stops_the_run_and_once_there_is_room_it_goes_on(
    small_disk: Path, tmp_path: Path, shard_sums: Sums
) -> None:
    assert ended(drive(tmp_path / "quiet")).returncode == 0
    out = small_disk / "out"
    stopped = ended(drive(out))
    assert stopped.returncode == 2
    assert f"to {out}: [Errno 28] No space left on device" in stopped.stderr and "Traceback" not in stopped.stderr
    done = len(Layout(out).committed())
    assert 0 < done < UNITS
    assert not list(out.rglob("*.tmp"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert ended(drive(out)).returncode == 0
    assert shard_sums(out) == shard_sums(tmp_path / "quiet")
    assert verify(Layout(out)) == ([], UNITS, UNITS)


def test_a_folder_that_turns_read_only_stops_the_run_and_once_it_is_not_it_goes_on(
    tmp_path: Path, shard_sums: Sums
) -> None:
    assert ended(drive(tmp_path / "quiet", pause_s=0.05)).returncode == 0
    out = tmp_path / "out"
    process = subprocess.Popen(
        drive(out, pause_s=0.05).command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    while len(Layout(out).committed()) < 3:
        assert process.poll() is None
        time.sleep(0.005)
    with read_only(out / "shards"):
        _, said = process.communicate(timeout=240)
    assert process.returncode == 2, said
    assert f"to {out}: [Errno " in said and "Traceback" not in said
    assert 3 <= len(Layout(out).committed()) < UNITS
    assert ended(drive(out, pause_s=0.05)).returncode == 0
    assert shard_sums(out) == shard_sums(tmp_path / "quiet")
    assert verify(Layout(out)) == ([], UNITS, UNITS)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Let nobody write there: by a mount, as permissions do not bind root; by permissions where mounts are root's."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], capture_output=True)
    is_mount = not subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], capture_output=True).returncode
    if not is_mount:
        folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("neither mounts nor permissions keep this user from writing")
    try:
        yield
    finally:
        if is_mount:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
        else:
            folder.chmod(0o755)
