"""What two processes say that torchrun starts, when one of them fails, or both do."""

import json
import multiprocessing
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from tests.training.fit.processes import ended
from tests.training.fit.toy import write_data
from training.__main__ import app
from training.commands.ranks import speaker_of

_CONTEXT = multiprocessing.get_context("forkserver")

RECIPE = """
import os
from dataclasses import dataclass, replace
from tests.training.fit.toy import Toy, ToyConfig, toy_recipe

def tiny():
    return toy_recipe(steps=2)

def uneven():
    return toy_recipe(batch_size=9)

def apart():
    if os.environ["RANK"] == "1":
        raise ValueError("this machine lacks a file")
    return tiny()

class Broken(Toy):
    def forward(self, tensors, noise):
        if os.environ["RANK"] == "1" and noise.step == 1:
            raise OSError("this machine's disk is gone")
        return super().forward(tensors, noise)

@dataclass(frozen=True, slots=True, kw_only=True)
class BrokenConfig(ToyConfig):
    def build(self, *, load=True):
        return Broken(self)

def broken():
    return replace(tiny(), family=BrokenConfig())
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    write_data(folder)
    (folder / "mine.py").write_text(RECIPE)
    return folder


@contextmanager
def ranks(folder: Path, *arguments: object) -> Iterator[list[ForkServerProcess]]:
    """Two processes, with a store of their agent's as torchrun's have it; what each says goes to a file of its own."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=60))
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}
    world |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "INLAY_CACHE": str(folder / "cache")}
    given = ["fit", *map(str, arguments)]
    started = [
        _CONTEXT.Process(target=_call, args=(given, {**world, "RANK": str(rank)}, folder / f"{rank}.txt"))
        for rank in range(2)
    ]
    for process in started:
        process.start()
    yield started
    for process in started:
        process.kill()
        process.join()


def _call(arguments: list[str], env: dict[str, str], said: Path) -> None:
    warnings.simplefilter("error")
    os.environ.update(env)
    with said.open("w") as sys.stderr:
        app(arguments)


def said(folder: Path) -> list[str]:
    return [(folder / f"{rank}.txt").read_text().strip() for rank in range(2)]


@pytest.mark.parametrize(
    ("recipe", "out", "says"),
    [
        ("mine.py:large", "new", "mine.py has no function 'large'"),  # before ranks have met
        ("mine.py:uneven", "new", "a global batch of 9 can't be shared by 2 ranks"),  # in each of them
        ("mine.py:tiny", "run", "already holds a run"),  # in the first, which tells the others
    ],
)
def test_what_all_ranks_have_done_wrong_is_told_once(own: Path, tmp_path: Path, recipe: str, out: str, says: str):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.json").write_text(json.dumps({"version": 1, "recipe": {}}))
    with ranks(tmp_path, "--recipe", own / recipe, "--data", own / "data", "--out", tmp_path / out) as started:
        assert ended(started) == [2, 2]
    first, second = said(tmp_path)
    assert first.startswith("error: ") and says in first
    assert second == ""


def test_what_one_rank_alone_meets_is_told_by_it_with_its_number(own: Path, tmp_path: Path):
    with ranks(tmp_path, "--recipe", own / "mine.py:apart", "--data", own / "data", "--out", tmp_path / "run") as both:
        both[1].join(60)
        assert both[1].exitcode == 2
    assert said(tmp_path)[1] == "rank 1: error: this machine lacks a file"


def test_the_others_of_one_that_failed_at_work_say_so_in_a_line(own: Path, tmp_path: Path):
    with ranks(tmp_path, "--recipe", own / "mine.py:broken", "--data", own / "data", "--out", tmp_path / "run") as both:
        assert ended(both) == [1, 2]
    first, second = said(tmp_path)
    assert first.endswith("rank 0: another rank has ended, and says why") and "Traceback" not in first
    assert second == "rank 1: error: this machine's disk is gone"


@pytest.mark.parametrize(
    ("rank", "size", "speaker"), [("1", "2", "rank 1: "), ("0", "2", ""), ("3", "1", ""), ("0", "1", "")]
)
def test_a_process_that_can_ask_no_other_speaks_for_itself(
    monkeypatch: pytest.MonkeyPatch, rank: str, size: str, speaker: str
):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with speaker_of("no such file") as found:
        assert found == speaker
