"""The demo's last part: a tiny UNIMO-G and a tiny λ-ECLIPSE learn from shards that the engine wrote, and draw."""

import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from pipeline.actor import FatalError
from pipeline.demo.questions import Questions, write_questions
from pipeline.report.drawn import Column, DrawnGrid, Row

_NEEDED = ("diffusers", "jaxtyping", "peft", "torch", "transformers")


_RECIPES = Path(__file__).with_name("recipes.py")


@dataclass(frozen=True, slots=True)
class Model:
    """A model: what it is called, and the function that gives its recipe."""

    title: str
    function: str

    @property
    def recipe(self) -> str:
        """As ``--recipe`` takes it."""
        return f"{os.path.relpath(_RECIPES)}:{self.function}"


MODELS = (Model("UNIMO-G", "unimo_g"), Model("λ-ECLIPSE", "lambda_eclipse"))


def missing_packages() -> tuple[str, ...]:
    """What training needs and is not installed."""
    return tuple(name for name in _NEEDED if find_spec(name) is None)


def learn(data: Path, stem: Path) -> DrawnGrid:
    """Train each model, and let it answer the demo's questions.

    Args:
        data: Run of the engine whose shards they learn from.
        stem: What the names of their folders begin with. A training that is done is not repeated.

    Raises:
        FatalError: If a command fails; it has said why.
    """
    questions = write_questions(stem.with_name(f"{stem.name}-questions"))
    columns = tuple(
        _column(model, data, stem.with_name(f"{stem.name}-{model.function}"), questions) for model in MODELS
    )
    rows = tuple(Row(question.pieces, question.scene) for question in questions.asked)
    return DrawnGrid(rows, columns)


def _column(model: Model, data: Path, run: Path, questions: Questions) -> Column:
    resume = ["--resume"] if (run / "recipe.json").exists() else []
    fit = ["fit", "--recipe", model.recipe, "--data", str(data), "--out", str(run), *resume]
    generate = ["generate", "--run", str(run), "--prompts", str(questions.file)]
    _call(fit)
    pictures = tuple(Path(line) for line in _call(generate).splitlines())
    return Column(model.title, pictures, tuple(map(_words, (fit, generate))))


def _call(arguments: list[str]) -> str:
    """Run a command of the trainer, shown so that it can be run by hand; what it printed."""
    console = Console(stderr=True)
    console.print(f"$ {_words(arguments)}", style="bold", markup=False, highlight=False, soft_wrap=True)
    done = subprocess.run(_command(arguments), stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise FatalError(
            f"`{_words(arguments)}` ended with exit code {done.returncode}; all before it is done, and --no-training "
            "leaves this part out"
        )
    return done.stdout


def _command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "training", *arguments]


def _words(arguments: list[str]) -> str:
    return shlex.join(_command(arguments))
