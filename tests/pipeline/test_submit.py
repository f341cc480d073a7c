"""The demo as a user submits it: a Ray head with a token, `ray job submit --working-dir .`, shards."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.ledger import Layout
from pipeline.verify import verify

pytestmark = [pytest.mark.ray, pytest.mark.slow]
RAY = str(Path(sys.executable).with_name("ray"))


@dataclass(frozen=True)
class Head:
    address: str
    env: dict[str, str]


def free_ports(count: int) -> list[int]:
    """Free ports outside 10002 to 19999, which Ray keeps for its workers."""
    ports: list[int] = []
    with ExitStack() as held:
        while len(ports) < count:
            listener = held.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            if not 10002 <= port <= 19999:
                ports.append(port)
    return ports


@pytest.fixture
def head(tmp_path: Path) -> Iterator[Head]:
    """A Ray head on 127.0.0.1 that asks for a token; ended with the test."""
    token = tmp_path / "token"
    token.write_text("0123456789abcdef" * 4)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
    gcs, dashboard, agent, metrics, client = free_ports(5)
    session = tempfile.mkdtemp(prefix="ray")  # short: Ray makes Unix sockets below it
    arguments = {
        "node-ip-address": "127.0.0.1",
        "port": gcs,
        "dashboard-host": "127.0.0.1",
        "dashboard-port": dashboard,
        "dashboard-agent-listen-port": agent,
        "metrics-export-port": metrics,
        "ray-client-server-port": client,
        "num-cpus": 2,
        "object-store-memory": 200_000_000,
        "temp-dir": session,
    }
    flags = [f"--{name}={value}" for name, value in arguments.items()]
    log = (tmp_path / "head.log").open("w")
    process = subprocess.Popen(
        [RAY, "start", "--head", "--block", *flags], env=env, stdout=log, stderr=log, start_new_session=True
    )
    try:
        address = f"http://127.0.0.1:{dashboard}"
        _wait_for(address, env, process, tmp_path / "head.log")
        yield Head(address, env)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # the head and all it started; a graceful end takes half a minute
        process.wait(timeout=60)
        log.close()
        shutil.rmtree(session, ignore_errors=True)


def _wait_for(address: str, env: dict[str, str], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 120
    while subprocess.run([RAY, "job", "list", "--address", address], env=env, capture_output=True).returncode:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(1)


def submit(head: Head, env: dict[str, str], *entrypoint: str) -> subprocess.CompletedProcess[str]:
    command = [RAY, "job", "submit", "--address", head.address, "--working-dir", ".", "--", *entrypoint]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=1200)


def test_the_demo_runs_as_a_job_and_only_with_the_token(head: Head, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stranger = {name: value for name, value in head.env.items() if name != "RAY_AUTH_TOKEN_PATH"}
    (tmp_path / "other").write_text("f" * 64)
    refused = submit(head, stranger | {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}, "true")
    assert refused.returncode != 0
    done = submit(head, head.env, sys.executable, "-m", "pipeline", "demo", "--no-training", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    layout = Layout(out)
    mistakes, found, units = verify(layout)
    assert mistakes == [] and found == units
    assert sum(record.kept for record in layout.unit_records()) > 200
    totals = [record.kept + sum(r.count for r in record.rejections) for record in layout.unit_records()]
    assert sum(totals) == layout.read_run().rows
