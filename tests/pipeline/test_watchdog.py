"""A call that does not come back, in processes of their own."""

import subprocess
import sys
import time

import pytest

from pipeline.watchdog import Watchdog

CODE = """
from pipeline.watchdog import Watchdog
from tests.pipeline.hazards import HAZARDS
with Watchdog("unit 000007, ") as watchdog, watchdog.watch(0.2, lambda: "node 'paint' did not return"):
    HAZARDS["{hazard}"]()
"""


def hang(hazard: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE.format(hazard=hazard)], capture_output=True, text=True, timeout=60
    )


def test_a_call_that_hangs_ends_its_process_with_its_name_and_its_stack() -> None:
    done = hang("hang")
    assert done.returncode == 1
    assert "error: unit 000007, node 'paint' did not return" in done.stderr
    assert "hazards.py" in done.stderr and "in _hang" in done.stderr


def test_also_one_that_never_lets_go_of_pythons_lock() -> None:
    done = hang("hang_in_c")
    assert done.returncode == 1
    assert "in _hang_in_c" in done.stderr


def test_a_call_that_returns_in_time_is_let_be(capfd: pytest.CaptureFixture[str]) -> None:
    with Watchdog() as watchdog:
        for _ in range(3):
            with watchdog.watch(0.3, lambda: "late"):
                pass
        time.sleep(2)
    assert "late" not in capfd.readouterr().err
