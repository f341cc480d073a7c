"""One run, however many processes share it, and however often it is killed."""

import contextlib
import os
import random
import signal
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
import torch

from tests.training.fit.processes import ended, equal, lines, run_world, saved_steps, start, start_world, tensors_of
from tests.training.fit.toy import LORA, read_diary
from training.fit.runs import CHECKPOINTS

TOLERANCE = 1e-6
"""Sums of gradients in another order: about eight roundings of float32 values near 1, over six steps."""

Tensors = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Tensors:
    """What one process that was never disturbed learns in six steps."""
    out = tmp_path_factory.mktemp("alone") / "run"
    process = start(data, out)
    process.join()
    assert process.exitcode == 0
    return tensors_of(out)


def distance(one: Tensors, other: Tensors) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one if name.startswith(("weights.", "ema.")))


@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_processes_learn_what_one_learns_whether_they_draw_or_stop_meanwhile(
    data: Path, tmp_path: Path, alone: Tensors, mode: str
) -> None:
    whole, parts, changes = tmp_path / "whole", tmp_path / "parts", {"micro_batch": 2}
    assert run_world(2, data, whole, changes, mode=mode) == [0, 0]
    assert distance(tensors_of(whole), alone) < TOLERANCE
    assert run_world(2, data, parts, {**changes, "steps": 4, "sample_every": 1}, mode=mode, draws=True) == [0, 0]
    assert run_world(2, data, parts, changes, mode=mode, resume="yes") == [0, 0]
    assert equal(tensors_of(whole), tensors_of(parts))


def test_a_run_goes_on_in_another_number_of_processes_with_the_next_samples(
    data: Path, tmp_path: Path, alone: Tensors
) -> None:
    diaries = [tmp_path / "whole.txt", tmp_path / "parts.txt"]
    whole = start(data, tmp_path / "whole", {"diary": str(diaries[0])})
    changes = {"diary": str(diaries[1])}
    assert run_world(2, data, tmp_path / "parts", {"steps": 2, **changes}) == [0, 0]
    assert run_world(1, data, tmp_path / "parts", {"steps": 4, **changes}, resume="yes") == [0]
    assert run_world(4, data, tmp_path / "parts", changes, resume="yes") == [0, 0, 0, 0]
    whole.join()
    assert read_diary(diaries[1]) == read_diary(diaries[0])
    assert distance(tensors_of(tmp_path / "parts"), alone) < TOLERANCE


def test_two_processes_share_low_rank_updates_in_bfloat16(data: Path, tmp_path: Path) -> None:
    changes = {"groups": LORA, "precision": "bfloat16", "recompute": True}
    assert run_world(2, data, tmp_path / "run", changes) == [0, 0]
    weights = {name: value for name, value in tensors_of(tmp_path / "run").items() if name.startswith("weights.")}
    assert all(".lora_" in name for name in weights)
    assert all(value.abs().max() > 0 for value in weights.values())


def test_two_processes_agree_to_stop(data: Path, tmp_path: Path) -> None:
    assert run_world(2, data, tmp_path / "run", {"poison": 3, "most": 2}) == [1, 1]
    assert saved_steps(tmp_path / "run") == [2, 4]


def test_a_run_killed_at_any_moment_ends_as_if_it_never_was(data: Path, tmp_path: Path) -> None:
    changes = {"steps": 30, "dropout": 0.2, "keep": 2}
    whole = start(data, tmp_path / "whole", changes)
    rng, out, halves = random.Random(0), tmp_path / "killed", 0
    for kill in range(6):
        before = unfinished(out)
        process = start(data, out, changes, resume="if_any", slow=True)
        if kill % 2 == 0:
            until_saving(process, out, before)
        time.sleep(rng.uniform(0, 0.6 if kill % 2 else 0.06))
        process.kill()
        process.join()
        halves += bool(unfinished(out) - before)
    last = start(data, out, changes, resume="if_any")
    last.join()
    whole.join()
    assert (whole.exitcode, last.exitcode) == (0, 0)
    assert halves
    assert equal(tensors_of(out), tensors_of(tmp_path / "whole"))


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGINT])
def test_a_rank_that_is_asked_to_end_has_all_ranks_save_their_last_step(data: Path, tmp_path: Path, asked: int) -> None:
    out = tmp_path / "run"
    ranks = start_world(2, data, out, {"steps": 500, "save_every": 1000})
    while not (out / "log.jsonl").exists() or not lines(out):
        assert all(rank.is_alive() for rank in ranks)
        time.sleep(0.01)
    assert ranks[1].pid is not None
    os.kill(ranks[1].pid, asked)
    assert ended(ranks) == [128 + asked, 128 + asked]
    (step,) = saved_steps(out)
    assert lines(out)[-1]["step"] <= step < 500


def unfinished(out: Path) -> set[int]:
    """Checkpoints that were begun and not committed."""
    found = set()
    for path in (out / CHECKPOINTS).glob("step_*"):
        with contextlib.suppress(FileNotFoundError):  # the run cleans up meanwhile
            number = path.stat().st_ino
            found |= set() if (path / "COMMIT").exists() else {number}
    return found


def until_saving(process: ForkServerProcess, out: Path, before: set[int]) -> None:
    """Until a checkpoint is begun that was not there before, or there is none left to begin."""
    while not unfinished(out) - before and process.is_alive():
        time.sleep(0.002)
