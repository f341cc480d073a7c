"""The trainer on Ray Train: what its options mean, and what a dying worker costs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from tests.training.fit.processes import run_world, saved_steps, tensors_of
from tests.training.fit.toy import read_diary, toy_settings, write_data
from training.launch import Launch, Scale, fitting, launch, read_workers, train

TOLERANCE = 1e-6
"""As in ``fit/test_worlds.py``: the restarted run may have another number of workers."""

RECIPE = """
import os, signal
from dataclasses import dataclass, replace
from pathlib import Path
from tests.training.fit.toy import Toy, ToyConfig, toy_recipe

HERE = Path(__file__).parent

class Mortal(Toy):
    def forward(self, tensors, noise):
        if noise.step == 3 and noise.slots[0] == 0 and not (HERE / "killed").exists():
            (HERE / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(tensors, noise)

@dataclass(frozen=True, slots=True, kw_only=True)
class MortalConfig(ToyConfig):
    def build(self, *, load=True):
        return Mortal(self)

def mortal():
    return replace(toy_recipe(), family=MortalConfig(diary=str(HERE / "killed.txt")))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("local_ray")
def test_a_run_whose_worker_was_killed_ends_as_one_that_was_not(
    tmp_path: Path,
) -> None:
    data = write_data(tmp_path)
    assert run_world(2, data, tmp_path / "whole", {"diary": str(tmp_path / "whole.txt")}) == [0, 0]
    (tmp_path / "mine.py").write_text(RECIPE)
    job = Launch(
        recipe=f"{os.path.relpath(tmp_path / 'mine.py')}:mortal",
        data=(str(data),),
        out=tmp_path / "run",
        options=toy_settings(data, tmp_path).options,
        track=("tensorboard",),
    )
    train(job, Scale(workers=(1, 3), failures=1))
    assert (tmp_path / "killed").exists()
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert saved_steps(tmp_path / "run") == saved_steps(tmp_path / "whole")
    assert sorted(set(read_diary(tmp_path / "killed.txt"))) == read_diary(tmp_path / "whole.txt")
    whole, killed = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "run")
    assert whole.keys() == killed.keys()
    learnt = [name for name in whole if name.startswith(("weights.", "ema."))]
    assert max(float((whole[name] - killed[name]).abs().max()) for name in learnt) < TOLERANCE


@pytest.mark.ray
@pytest.mark.slow
def test_the_first_of_the_workers_tells_how_far_it_is_and_each_line_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    data = write_data(tmp_path)
    (tmp_path / "mine.py").write_text("from tests.training.fit.toy import toy_recipe as toy\n")
    recipe = f"{os.path.relpath(tmp_path / 'mine.py')}:toy"
    words = ["--recipe", recipe, "--data", str(data), "--out", str(tmp_path / "run"), "--workers", "2", "--steps", "2"]
    done = subprocess.run([sys.executable, "-m", "training.launch", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    told = ["MiB a rank before activations", "activations: about", "step 1/2", "step 2/2"]
    assert [sum(words in line for line in lines) for words in told] == [1] * len(told)


def test_workers_are_counted_and_share_a_batch_evenly() -> None:
    assert [read_workers(text) for text in ("4", "1:4", "2:2")] == [(4, 4), (1, 4), (2, 2)]
    for text in ("", "0", "4:1", "one", "1:2:3"):
        with pytest.raises(ValueError, match="the smaller one first"):
            read_workers(text)
    assert [fitting(8, workers) for workers in range(1, 9)] == [1, 2, 2, 4, 4, 4, 4, 8]


@pytest.mark.parametrize("mistake", ["--data", "--out"])
def test_paths_mean_the_same_in_every_worker(tmp_path: Path, mistake: str) -> None:
    given = {"--recipe": "plain", "--data": "s3://bucket/run", "--out": str(tmp_path / "run"), mistake: "some/folder"}
    app = Typer()
    app.command()(launch)
    result = CliRunner().invoke(app, [word for pair in given.items() for word in pair])
    assert result.exit_code == 2
    assert "some/folder: workers have folders of their own" in result.output.replace("\n", " ")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_none_is_told_before_ray_is_asked(tmp_path: Path) -> None:
    app = Typer()
    app.command()(launch)
    words = ["--recipe", "plain", "--data", "s3://bucket/run", "--out", str(tmp_path / "run"), "--track", "mlflow"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert "--track mlflow: there are tensorboard and wandb" in result.output.replace("\n", " ")
