"""What a record can do to its process."""

import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import psutil


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_with_driver() -> None:
    """As Ray may when memory is short: the driver of an isolation dies too."""
    drivers = [each for each in psutil.Process(os.getppid()).children() if "_isolate_unit" in each.name()]
    assert drivers, "this is no isolation"
    for driver in drivers:
        driver.kill()
    _kill()


def _segfault() -> None:
    ctypes.string_at(0)


def _exit() -> None:
    os._exit(0)


def _hang() -> None:
    time.sleep(3600)


def _hang_in_c() -> None:
    """Without ever letting go of Python's lock."""
    ctypes.PyDLL(None).sleep(3600)


def _ask_for_too_much() -> None:
    bytearray(1 << 60)


def _hog() -> None:
    """Take memory by and by, as long as the machine has 3 GB to spare, until somebody does something about it."""
    held = []
    while psutil.virtual_memory().available > 3e9:
        held.append(os.urandom(1 << 20) * 64)
        time.sleep(0.02)
    time.sleep(60)


HAZARDS: Mapping[str, Callable[[], None]] = MappingProxyType(
    {
        "kill": _kill,
        "kill_with_driver": _kill_with_driver,
        "segfault": _segfault,
        "exit": _exit,
        "hang": _hang,
        "hang_in_c": _hang_in_c,
        "ask_for_too_much": _ask_for_too_much,
        "hog": _hog,
    }
)


def strike(hazard: str, tally: str, times: int) -> None:
    """Let it happen, if it has not happened so many times yet by the length of the file ``tally`` (if one is named)."""
    if tally:
        with Path(tally).open("a+b") as file:
            if file.tell() >= times:
                return
            file.write(b"x")
    HAZARDS[hazard]()
