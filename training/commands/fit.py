"""``python -m training fit``: train a recipe on data."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from training.commands.console import readable_errors
from training.commands.ranks import is_lost
from training.stream.options import StreamOptions
from training.stream.source import Dataset

if TYPE_CHECKING:  # torch stays out of what only prints help
    from training.config import Recipe

RecipeName = Annotated[str, typer.Option(help="A recipe's name, or file.py:function of your own")]
Data = Annotated[list[str], typer.Option(metavar="DIR", help="Folder or URL of shards; may be given several times")]
Out = Annotated[Path, typer.Option(metavar="RUN", help="Folder of the run: recipe, log, checkpoints")]
ResumeFlag = Annotated[bool, typer.Option("--resume", help="Go on from the run's newest checkpoint")]
StartFrom = Annotated[Path | None, typer.Option(metavar="RUN", help="Begin with the weights of another run")]
Track = Annotated[
    list[str] | None, typer.Option(help="Send figures to tensorboard or wandb too; may be given several times")
]
Threads = Annotated[int, typer.Option(min=1, help="That read and decode; `training stream --bench` says how many do")]
Readers = Annotated[int, typer.Option(min=0, help="Processes that do, with so many threads each; 0: this one")]
_EXIT_LOST = 1

Steps = Annotated[int | None, typer.Option(min=1, help="Steps in all; else the recipe's")]


def fit(
    recipe: RecipeName,
    data: Data,
    out: Out,
    resume: ResumeFlag = False,
    start_from: StartFrom = None,
    steps: Steps = None,
    track: Track = None,
    threads: Threads = 2,
    readers: Readers = 0,
) -> None:
    """Train; alone, or in each process that torchrun starts."""
    with readable_errors():
        from training.fit.fit import FitSettings, run_fit
        from training.fit.stop import StoppedError
        from training.fit.tracking import read_trackers

        settings = FitSettings(
            recipe=find_recipe(recipe, steps),
            data=tuple(Dataset(url=url) for url in data),
            out=out,
            resume="yes" if resume else "no",
            start_from=start_from,
            options=StreamOptions(threads=threads, readers=readers),
            track=read_trackers(track or ()),
            show=True,
        )
        try:
            run_fit(settings)
        except StoppedError as stopped:
            typer.echo(stopped, err=True)
            raise typer.Exit(stopped.exit_code) from None
        except RuntimeError as error:
            if not is_lost(error):
                raise
            typer.echo(f"rank {os.environ.get('RANK', '0')}: another rank has ended, and says why", err=True)
            raise typer.Exit(_EXIT_LOST) from None


def find_recipe(name: str, steps: int | None = None) -> Recipe:
    """The recipe of a name, or that a function in a file gives; of so many steps, if that is said.

    Raises:
        ValueError: As :func:`find_function`; or if the function gives no recipe, or one of values that can't be.
    """
    from training.config import Recipe

    found = find_function(name)()
    if not isinstance(found, Recipe):
        raise ValueError(f"{name} gives a {type(found).__name__}, but must give a Recipe")
    return replace(found, steps=steps) if steps else found


def find_function(name: str) -> Callable[[], Recipe]:
    """The function of a recipe's name, or of a file.

    Raises:
        ValueError: If there is none; the message names the closest.
    """
    from training.recipes import RECIPES

    file, colon, function = name.rpartition(":")
    if colon:
        return _own(Path(file), function)
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, n=3) or sorted(RECIPES)
        if name.endswith(".py"):
            raise ValueError(f"{name} names a file and no function in it; --recipe takes {name}:function")
        raise ValueError(f"there is no recipe {name!r}; `python -m training recipes` lists them: {', '.join(near)}")
    return RECIPES[name]


def _own(path: Path, function: str) -> Callable[[], Recipe]:
    if not path.exists():
        raise ValueError(f"{path}: no such file; --recipe takes a recipe's name or file.py:function")
    spec = importlib.util.spec_from_file_location(f"recipe_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file; --recipe takes a recipe's name or file.py:function")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for their annotations
    spec.loader.exec_module(module)
    made: Callable[[], Recipe] | None = getattr(module, function, None)
    if not callable(made):
        raise ValueError(f"{path} has no function {function!r}")
    return made
