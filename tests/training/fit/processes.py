"""Runs of the toy in real processes, forked from one that has imported all: alone, or as ranks of a world."""

import json
import multiprocessing
import os
import socket
import sys
import time
import warnings
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import torch

from tests.training.fit.toy import toy_recipe, toy_settings
from training.families.base import Family, SampleConfig, conditions_of
from training.fit.checkpoint import committed, read_tensors, shapes_in
from training.fit.fit import run_fit
from training.fit.runs import CHECKPOINTS, checkpoint_of
from training.fit.stop import StoppedError
from training.stream.tensors import BatchTensors

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.training.fit.processes", "diffusers.optimization", "peft"])


def start(data: Path, out: Path, changes: dict[str, Any] | None = None, **settings: Any) -> ForkServerProcess:
    """A process that trains the toy."""
    process = _CONTEXT.Process(target=_train, args=(data, out, changes or {}, settings, {}))
    process.start()
    return process


def run_world(
    size: int, data: Path, out: Path, changes: dict[str, Any] | None = None, **settings: Any
) -> list[int | None]:
    """Train the toy in as many ranks as torchrun would start; their exit codes."""
    return ended(start_world(size, data, out, changes, **settings))


def start_world(
    size: int, data: Path, out: Path, changes: dict[str, Any] | None = None, **settings: Any
) -> list[ForkServerProcess]:
    """The ranks, at work."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    world = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        _CONTEXT.Process(target=_train, args=(data, out, changes or {}, settings, {**world, "RANK": str(rank)}))
        for rank in range(size)
    ]
    for rank in ranks:
        rank.start()
    return ranks


def ended(ranks: list[ForkServerProcess]) -> list[int | None]:
    """The exit codes of ranks, once they have ended."""
    for rank in ranks:
        rank.join(240)
    return [rank.exitcode for rank in ranks]


def _train(data: Path, out: Path, changes: dict[str, Any], settings: dict[str, Any], env: dict[str, str]) -> None:
    warnings.simplefilter("error")
    os.environ.update(env)
    torch.set_num_threads(1)
    if settings.pop("slow", False):
        _slow_down()
    draw = _draw if settings.pop("draws", False) else None
    try:
        run_fit(toy_settings(data, out, toy_recipe(**changes), **settings), draw)
    except StoppedError as stopped:
        sys.exit(stopped.exit_code)


def _draw(family: Family, tensors: BatchTensors, step: int) -> None:
    """All ranks draw; the averages are other pictures than the weights would be."""
    family.sample(conditions_of(tensors), SampleConfig())


def _slow_down() -> None:
    """Let every write to disk take its time."""
    sync = os.fsync

    def slow(file: int) -> None:
        time.sleep(0.05)
        sync(file)

    os.fsync = slow


def tensors_of(run: Path, step: int | None = None) -> dict[str, torch.Tensor]:
    """All that a run's newest checkpoint holds, whole."""
    path = checkpoint_of(run, step)
    tensors = {name: torch.zeros(shape) for name, shape in shapes_in(path).items()}
    read_tensors(path, tensors)
    return tensors


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether tensors are the same to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def lines(run: Path) -> list[dict[str, float]]:
    """A run's log."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def saved_steps(run: Path) -> list[int]:
    return [int(path.name.removeprefix("step_")) for path in committed(run / CHECKPOINTS)]
