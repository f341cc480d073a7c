import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.actor import FatalError
from pipeline.demo import learn as module
from pipeline.demo import show
from pipeline.demo.learn import MODELS, Model, learn
from training.recipes import RECIPES

TRAINER = """
import json, pathlib, sys
from PIL import Image

given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
if sys.argv[1] == "fit":
    run = pathlib.Path(given["--out"])
    run.mkdir()
    (run / "recipe.json").write_text(json.dumps(sys.argv[1:]))
    sys.exit(3 if given["--steps"] == "13" else 0)
for number, line in enumerate(open(given["--prompts"])):
    path = pathlib.Path(given["--run"]) / f"{number}.png"
    Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    print(path)
"""


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for ``python -m training``, by the same arguments."""
    script = tmp_path / "trainer.py"
    script.write_text(TRAINER)
    monkeypatch.setattr(module, "_command", lambda arguments: [sys.executable, str(script), *arguments])


def test_its_recipes_are_there() -> None:
    assert {model.recipe for model in MODELS} <= RECIPES.keys()


@pytest.mark.usefixtures("trainer")
def test_every_model_is_trained_and_answers_all_questions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = learn(tmp_path / "data", tmp_path / "demo")

    assert [column.title for column in grid.columns] == [model.title for model in MODELS]
    commands: list[str] = []
    for model, column in zip(MODELS, grid.columns, strict=True):
        run = tmp_path / f"demo-{model.recipe}"
        told = json.loads((run / "recipe.json").read_text())
        assert told[:5] == ["fit", "--recipe", model.recipe, "--data", str(tmp_path / "data")] and str(run) in told
        assert [path.parent for path in column.pictures] == [run] * len(grid.rows)
        commands += column.commands
    assert [line.removeprefix("$ ") for line in capsys.readouterr().err.splitlines()] == commands
    assert all(len(set(map(tuple, np.asarray(Image.open(row.scene)).reshape(-1, 3)))) > 10 for row in grid.rows)


@pytest.mark.usefixtures("trainer")
def test_a_training_that_fails_says_what_was_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MODELS", (Model("Bad", "bad", 13),))

    with pytest.raises(FatalError, match=r"fit --recipe bad .* ended with exit code 3; .* --no-training"):
        learn(tmp_path / "data", tmp_path / "demo")


def test_what_is_not_installed_is_said_and_the_demo_ends_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "peft" else object())

    code = show._learn([], tmp_path / "page.html", lambda *_: pytest.fail("nothing is run"))

    assert code == 0 and "no model is trained: peft not installed" in capsys.readouterr().err
