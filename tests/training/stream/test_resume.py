"""Exactness with real processes: killed, resumed, on other worlds."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.stream.runs import write_run
from tests.training.stream.worker import digests, open_stream
from training.stream.world import World

ROOT = Path(__file__).parents[3]
STEPS = 24
SIZES = (1, 2, 3, 4, 6, 8)

Batches = dict[int, list[tuple[str, int]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """150 samples in six shards: fewer shards than ranks; an epoch has about six batches of 24."""
    return write_run(tmp_path_factory.mktemp("exact") / "run", units=6, rows=25)


@pytest.fixture(scope="module")
def whole(run: Path) -> Batches:
    """The undisturbed run: the samples of every global batch."""
    return read(run, 1, 1, 0, STEPS)[0]


def read(run: Path, size: int, threads: int, start: int, stop: int, accumulation: int = 1) -> tuple[Batches, dict]:
    """Global batches ``[start, stop)``, read by all ranks of a world one after another; and the last state."""
    batches: Batches = {}
    for rank in range(size):
        world = World(rank=rank, size=size)
        with open_stream(run, run.parent / "cache", world, threads=threads, accumulation=accumulation) as stream:
            if start:
                stream.load_state_dict(STATES[start])
            while stream.step < stop:
                batch = next(stream)
                batches.setdefault(batch.place.step, []).extend(digests(batch))
            state = stream.state_dict()
    STATES[stop] = json.loads(json.dumps(state))
    return batches, state


STATES: dict[int, dict] = {}


def test_an_epoch_has_every_sample_once_but_for_tails(whole: Batches) -> None:
    keys = [key for step in whole for key, _ in whole[step]]
    counts = [keys.count(key) for key in set(keys)]
    assert len(set(keys)) == 150
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("size", "other"), list(itertools.permutations(SIZES, 2)))
def test_any_world_goes_on_where_any_other_stopped(run: Path, whole: Batches, size: int, other: int) -> None:
    first, _ = read(run, size, 1 + size % 3, 0, 5)
    second, _ = read(run, other, 1 + other % 2, 5, 9)
    assert first | second == {step: whole[step] for step in range(9)}


@pytest.mark.parametrize(("size", "accumulation"), [(1, 4), (2, 3), (3, 2), (4, 6)])
def test_parts_of_a_batch_are_the_batch(run: Path, whole: Batches, size: int, accumulation: int) -> None:
    batches, _ = read(run, size, 2, 0, 7, accumulation)
    assert batches == {step: whole[step] for step in range(7)}


def worker(run: Path, out: Path, steps: int, threads: int = 2, **env: str) -> subprocess.Popen[bytes]:
    out.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "tests.training.stream.worker", str(run), str(out), str(steps), str(threads)]
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", **env})


def logged(out: Path) -> list[dict]:
    """All lines of all logs."""
    return [json.loads(line) for path in out.glob("log-*.jsonl") for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_run_killed_twenty_times_is_the_undisturbed_run(run: Path, whole: Batches, tmp_path: Path) -> None:
    """Each process goes on exactly where the last whole state stands, with the very batches of the undisturbed run."""
    out, rng, kills, ends = tmp_path / "out", random.Random(5), 0, []
    while kills < 20:
        start = saved_step(out)
        process = worker(run, out, STEPS, threads=1 + kills % 3)
        log = out / f"log-1-0-{process.pid}.jsonl"
        while process.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        check(log, start, whole)
        ends.append(saved_step(out))
        if ends[-1] == STEPS:  # over before the twentieth kill: once more from the start
            (out / "state.json").unlink()
    assert len(set(ends)) > 3
    start = saved_step(out)
    last = worker(run, out, STEPS)
    assert last.wait() == 0
    assert check(out / f"log-1-0-{last.pid}.jsonl", start, whole) == STEPS


def saved_step(out: Path) -> int:
    saved = out / "state.json"
    return json.loads(saved.read_text())["step"] if saved.exists() else 0


def check(log: Path, start: int, whole: Batches) -> int:
    """Hold a process's log against the undisturbed run; the step after its last whole line."""
    lines = log.read_text().split("\n")[:-1]
    for step, line in enumerate(map(json.loads, lines), start):
        assert line["step"] == step
        assert [tuple(sample) for sample in line["samples"]] == whole[step]
    return start + len(lines)


def test_worlds_of_real_processes_go_on_from_each_other(run: Path, whole: Batches, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number, (size, steps) in enumerate([(2, 6), (3, 12), (1, 15)]):
        init = (tmp_path / f"rendezvous-{number}").as_uri()
        env = {"WORLD_SIZE": str(size), "INIT": init} if size > 1 else {}
        ranks = [worker(run, out, steps, **env, **({"RANK": str(rank)} if env else {})) for rank in range(size)]
        assert [process.wait() for process in ranks] == [0] * size
        states = [json.loads((out / f"state-{rank}.json").read_text()) for rank in range(size)]
        assert all(state == states[0] for state in states)
    batches: Batches = {}
    for line in sorted(logged(out), key=lambda line: (line["step"], line["rank"])):
        batches.setdefault(line["step"], []).extend(tuple(sample) for sample in line["samples"])
    assert batches == {step: whole[step] for step in range(15)}
