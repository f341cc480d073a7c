"""A run's folder: its recipe beside its checkpoints, read without trusting what it says."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from manifests.files import write_atomically
from training.config import Recipe
from training.families.base import Family
from training.fit.checkpoint import check, committed, read_notes
from training.fit.groups import Trained, choose
from training.fit.parallel import as_family
from training.fit.state import load_weights
from training.plain import NewerError, Plain, differences, from_plain, leaves, to_plain
from training.recipes import TYPES
from training.weights import pinned

RECIPE, CHECKPOINTS, SAMPLES = "recipe.json", "checkpoints", "samples"
VERSION = 1
_MAY_CHANGE = (
    "steps", "save_every", "keep", "log_every", "sample_every", "micro_batch", "recompute", "compile", "prompts",
)  # fmt: skip
"""Fields of a recipe that may change when its run goes on: they don't decide what a step learns, but for ``steps``, as
a schedule that falls ends there; that is told.
"""

_ALLOWED = tuple(f"{name}{end}" for name in _MAY_CHANGE for end in (": ", "."))


class RunError(ValueError):
    """A folder that is no run, or not the one that is meant."""


def check_run(folder: Path, recipe: Recipe, may_resume: bool) -> None:
    """See that a run may begin in a folder, or go on there.

    Raises:
        RunError: If there is a run that is not to be resumed, or is of another recipe; it names what differs.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file: --out takes a folder")
    if not (folder / RECIPE).exists():
        return
    if not may_resume:
        raise RunError(f"{folder} already holds a run; --resume goes on with it, or give another --out")
    begun = _held(folder)["recipe"]
    if (name := begun.get("name")) != recipe.name:
        raise RunError(f"{folder} is a run of the recipe {name!r}, not of {recipe.name!r}: give that, or another --out")
    changed = [line for line in differences(begun, to_plain(recipe)) if not line.startswith(_ALLOWED)]
    if changed:
        lines = "".join(f"\n  {line}" for line in changed)
        raise RunError(
            f"{folder} is a run of another recipe:{lines}\nUndo the change to resume, or give another --out."
        )


def told_schedule(folder: Path, recipe: Recipe) -> str | None:
    """What to tell of a run that goes on to another last step, if its learning rates fall towards that."""
    if recipe.schedule.kind == "constant" or not (folder / RECIPE).exists():
        return None
    before = leaves(_plain(folder))["steps"]
    if before == recipe.steps:
        return None
    return (
        f"steps are {recipe.steps} now and were {before}: the learning rates fall to 0 at the new end, and are others "
        "from here on than they would have been"
    )


def write_recipe(
    folder: Path, recipe: Recipe, revisions: Mapping[str, str] | None = None, start_from: Path | None = None
) -> None:
    """Make a folder a run of a recipe, with the commits of the hub's models it takes and the run it begins with."""
    held = {
        "version": VERSION,
        "recipe": to_plain(recipe),
        "revisions": dict(sorted((revisions or {}).items())),
        "start_from": None if start_from is None else str(start_from.resolve()),
    }
    text = json.dumps(held, indent=2) + "\n"
    write_atomically(folder / RECIPE, text.encode())


def read_revisions(folder: Path) -> dict[str, str]:
    """The commits of the hub's models that a run takes, by :attr:`training.weights.Weights.key`; empty without a run.

    Raises:
        NewerError: If a newer Inlay wrote it.
    """
    if not (folder / RECIPE).exists():
        return {}
    revisions: dict[str, str] = _held(folder).get("revisions", {})
    return revisions


def read_start(folder: Path) -> Path | None:
    """The run whose weights a run began with; ``None`` if there is none, or no run.

    Raises:
        NewerError: If a newer Inlay wrote it.
    """
    start = _held(folder).get("start_from") if (folder / RECIPE).exists() else None
    return None if start is None else Path(start)


def at_revisions(recipe: Recipe, revisions: Mapping[str, str]) -> Recipe:
    """The recipe with its family's models of the hub at these commits."""
    return replace(recipe, family=pinned(recipe.family, revisions))


def read_version(folder: Path) -> int:
    """The version of a run's layout, which is known here.

    Raises:
        RunError: If there is no run.
        NewerError: If a newer Inlay wrote it.
    """
    _plain(folder)
    return VERSION


def read_recipe(folder: Path, types: Mapping[str, type] = TYPES) -> Recipe:
    """The recipe of a run.

    Raises:
        RunError: If there is no run.
        NewerError: If a newer Inlay wrote it.
    """
    recipe = from_plain(_plain(folder), types)
    if not isinstance(recipe, Recipe):
        raise RunError(f"{folder / RECIPE} holds no recipe")
    return recipe


def checkpoint_of(folder: Path, step: int | None = None) -> Path:
    """The newest checkpoint of a run, or the one at a step.

    Raises:
        RunError: If it isn't there; the message names those that are.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder")
    found = {step_of(path): path for path in committed(folder / CHECKPOINTS)}
    if not found:
        raise RunError(f"{folder} has no whole checkpoint; `python -m training fit` writes them")
    if step is None:
        return found[max(found)]
    if step not in found:
        raise RunError(f"{folder} has no checkpoint at step {step}; there are {', '.join(map(str, sorted(found)))}")
    return found[step]


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was written at."""
    return int(checkpoint.name.removeprefix("step_"))


def open_run(
    folder: Path, *, ema: bool = True, step: int | None = None, device: str = "cpu", recipe: Recipe | None = None
) -> tuple[Recipe, Family]:
    """A trained family with its recipe, ready to sample: in evaluation mode, its low-rank updates in place.

    Models of the hub are at the commits that the run took.

    Args:
        folder: Of the run.
        ema: Take averaged weights where the run kept them.
        step: Of the checkpoint; ``None``: the newest.
        device: Where to put it.
        recipe: The run's, if it is of types that only your own code knows; or with other frozen weights of the same
            sizes.

    Raises:
        RunError: If there is no such run or checkpoint.
        NewerError: If a newer Inlay wrote it.
        DamagedError: If the checkpoint is not what was written.
    """
    recipe = at_revisions(recipe or read_recipe(folder), read_revisions(folder))
    path = checkpoint_of(folder, step)
    check(path)
    read_notes(path, type(recipe.family).__name__)
    module, _ = build(recipe)
    load_weights(path, module, ema)
    return recipe, as_family(module.to(device).eval())


def build(recipe: Recipe) -> tuple[nn.Module, tuple[Trained, ...]]:
    """A recipe's family, and what of it trains; fresh parameters depend on the recipe's seed alone."""
    torch.manual_seed(recipe.seed)
    family = recipe.family.build()
    return family, choose(family, recipe.groups)


def _plain(folder: Path) -> Plain:
    plain: Plain = _held(folder)["recipe"]
    return plain


def _held(folder: Path) -> dict[str, Any]:
    path = folder / RECIPE
    if not path.exists():
        raise RunError(f"{folder} is no run of training: there is no {RECIPE} in it")
    return _parsed(path)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        held: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise RunError(f"{path} is damaged ({error}): put it back as it was, or fit anew") from None
    if isinstance(held, dict) and held.get("version", VERSION) != VERSION:
        raise NewerError(f"{path}: version {held['version']} of a newer Inlay, {VERSION} is known here; use that")
    if not isinstance(held, dict) or not {"version", "recipe"} <= held.keys():
        raise RunError(f"{path} holds no recipe of a run: put it back as it was, or fit anew")
    return held
