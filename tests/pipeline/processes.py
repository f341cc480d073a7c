"""The command line as a process of its own."""

import os
import subprocess
import sys


def command(*arguments: object) -> list[str]:
    """What starts it."""
    return [sys.executable, "-m", "pipeline", *map(str, arguments)]


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What it did, on no cluster but its own."""
    env = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=240, env=env)
