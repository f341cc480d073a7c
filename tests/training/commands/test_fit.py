import shutil
import signal
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tests.training.fit.processes import lines, saved_steps
from tests.training.fit.toy import write_data
from training.__main__ import app
from training.commands.fit import find_recipe
from training.fit.checkpoint import Checkpoints

RECIPE = """
from dataclasses import dataclass, replace
from pathlib import Path
from tests.training.fit.toy import toy_recipe

VALUE = 3

@dataclass(frozen=True, slots=True)
class Own:
    value: "int"

def tiny():
    return toy_recipe(steps=2)

def changed():
    return replace(tiny(), ema=0.5)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INLAY_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe file of one's own, beside some data."""
    folder = tmp_path_factory.mktemp("own")
    write_data(folder)
    (folder / "mine.py").write_text(RECIPE)
    return folder / "mine.py"


def call(own: Path, out: Path, *arguments: object, function: str = "tiny") -> Result:
    data = own.parent / "data"
    given = ["--recipe", f"{own}:{function}", "--data", data, "--out", out, *arguments]
    return CliRunner().invoke(app, ["fit", *map(str, given)])


def test_a_recipe_of_ones_own_is_trained_and_gone_on_with(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert call(own, out).exit_code == 0
    assert call(own, out, "--resume", "--steps", 3).exit_code == 0
    assert [line["step"] for line in lines(out)] == [1, 2, 3]
    done = call(own, out, "--resume", "--steps", 3)
    assert done.exit_code == 0
    assert "is at step 3: nothing is left to do; --steps takes more" in done.output.replace("\n", " ")
    assert call(own, tmp_path / "next", "--start-from", out).exit_code == 0
    assert saved_steps(tmp_path / "next") == [2]
    for mistake, says in (
        (call(own, out), "already holds a run; --resume goes on with it"),
        (call(own, out, "--resume", function="changed"), "ema: 0.9 -> 0.5"),
        (call(own, tmp_path / "other", "--resume"), "is no run of training"),
        (call(own, own), "mine.py is a file: --out takes a folder"),
        (call(own, tmp_path / "new", "--start-from", tmp_path / "none"), "none: there is no such folder"),
    ):
        assert mistake.exit_code == 2
        assert says in mistake.output.replace("\n", " ")
        assert "Traceback" not in mistake.output


def test_a_recipe_that_is_not_there_is_named(own: Path) -> None:
    for name, says in (
        ("unimoo", "there is no recipe 'unimoo'; `python -m training recipes` lists them"),
        ("nowhere.py:tiny", "nowhere.py: no such file"),
        (str(own), f"names a file and no function in it; --recipe takes {own}:function"),
        (f"{own}:huge", "has no function 'huge'"),
        (f"{own}:VALUE", "has no function 'VALUE'"),
        (f"{own}:Path", "Path gives a PosixPath, but must give a Recipe"),
    ):
        with pytest.raises(ValueError) as caught:
            find_recipe(name)
        assert says in str(caught.value)


def test_a_run_that_is_asked_to_end_says_how_it_goes_on(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settle(self: Checkpoints, wait: bool = False) -> None:
        patched.setattr(Checkpoints, "settle", whole)
        signal.raise_signal(signal.SIGTERM)

    whole = Checkpoints.settle
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "settle", settle)
        asked = call(own, tmp_path / "run", "--steps", 9)
    assert asked.exit_code == 128 + signal.SIGTERM
    assert "stopped by SIGTERM after step 1, which is saved; --resume goes on" in asked.output.replace("\n", " ")
    assert call(own, tmp_path / "run", "--steps", 9, "--resume").exit_code == 0
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, 10))


def test_a_run_does_not_go_on_from_a_damaged_checkpoint_but_from_the_one_before(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert call(own, out, "--steps", 4).exit_code == 0
    assert saved_steps(out) == [2, 4]
    (tensors,) = (out / "checkpoints" / "step_00000004").glob("*.safetensors")
    data = bytearray(tensors.read_bytes())
    data[-1] ^= 1
    tensors.write_bytes(data)
    refused = call(own, out, "--steps", 6, "--resume")
    assert refused.exit_code == 2
    assert f"{tensors} is damaged" in refused.output
    command = f"rm -r {tensors.parent}"
    assert f"step_00000002 is whole: `{command}`, and --resume goes on" in refused.output
    shutil.rmtree(tensors.parent)
    assert call(own, out, "--steps", 6, "--resume").exit_code == 0
    assert [line["step"] for line in lines(out)] == [1, 2, 3, 4, 3, 4, 5, 6]
