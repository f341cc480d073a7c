"""Several runs put together to one without training, for families whose parts can be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from training.config import Recipe
from training.families.base import Composable, Composition
from training.fit.checkpoint import Checkpoints, Notes, read_notes
from training.fit.made_with import made_with
from training.fit.runs import CHECKPOINTS, RunError, build, checkpoint_of, open_run, read_recipe, write_recipe
from training.fit.skip import Skips
from training.fit.state import alone, weights_in
from training.fit.world import joined
from training.generate.compose import Look
from training.stream.prompts.base import Builder


@dataclass(frozen=True, slots=True)
class _Learnt:
    """A run: its recipe with models of the hub at their commits, its family, the names that its checkpoint holds."""

    folder: Path
    recipe: Recipe
    family: nn.Module
    saved: tuple[str, ...]
    notes: Notes

    def renamed(self, names: Mapping[str, str]) -> Iterator[tuple[str, str, nn.Parameter]]:
        """Its parameters: name, name when put together, value."""
        for name, parameter in self.family.named_parameters():
            start = next((old for old in names if name.startswith(old)), "")
            yield name, names.get(start, "") + name.removeprefix(start), parameter


def compose(folders: Sequence[Path], out: Path, scales: Sequence[float] | None = None, ema: bool = True) -> Path:
    """Write a run that holds what several have learnt; it can be drawn from, exported and begun with, not resumed.

    Args:
        folders: Of the runs; their newest checkpoints are taken.
        out: Folder of the run to write, new or empty.
        scales: How much each run says; ``None``: 1 each.
        ema: Take averaged weights where a run kept some.

    Returns:
        The checkpoint.

    Raises:
        RunError: If a folder is no run, or ``out`` holds anything.
        ValueError: If the runs' families can't be put together, or don't stand on the same weights.
        DamagedError: If a checkpoint is not what was written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is there already and is not overwritten; remove it, or give another --out")
    if scales is not None and len(scales) != len(folders):
        raise ValueError(f"there are {len(folders)} runs and {len(scales)} scales: give one each, or none")
    runs = [_learnt(folder, ema) for folder in folders]
    composition = _composition(runs, scales or [1.0] * len(runs))
    recipe = replace(runs[0].recipe, family=composition.config, ema=None, prompts=_prompts(runs), name=_name(runs))
    family, _ = build(recipe)
    parameters = _filled(dict(family.named_parameters()), runs, composition)
    notes = Notes(
        family=type(recipe.family).__name__,
        step=max(run.notes.step for run in runs),
        skips=Skips(),
        stream=_stream(runs),
        versions=made_with(),
    )
    with joined(torch.device("cpu")) as world:
        checkpoints = Checkpoints(out / CHECKPOINTS, 1, world)
        checkpoints.save(alone(parameters), notes)
        checkpoints.finish()
    write_recipe(out, recipe)
    return checkpoint_of(out)


def _learnt(folder: Path, ema: bool) -> _Learnt:
    checkpoint = checkpoint_of(folder)
    recipe, family = open_run(folder, ema=ema, recipe=read_recipe(folder))
    assert isinstance(family, nn.Module), "open_run has seen to it"
    notes = read_notes(checkpoint, type(recipe.family).__name__)
    return _Learnt(folder, recipe, family, weights_in(checkpoint), notes)


def _composition(runs: Sequence[_Learnt], scales: Sequence[float]) -> Composition:
    first, *others = (run.recipe.family for run in runs)
    if not isinstance(first, Composable):
        raise ValueError(f"runs of {runs[0].recipe.family_name} can't be put together; those of EMMA can")
    return first.composed(others, scales)


def _prompts(runs: Sequence[_Learnt]) -> Builder:
    """That whose pictures are the largest: networks resize them, and can't get back what is gone."""
    builders = [run.recipe.builder for run in runs]
    looks = [builder for builder in builders if isinstance(builder, Look)]
    return max(looks, key=lambda look: look.side or float("inf"), default=builders[0])


def _name(runs: Sequence[_Learnt]) -> str:
    return "+".join(run.recipe.name for run in runs)


def _filled(
    parameters: dict[str, nn.Parameter], runs: Sequence[_Learnt], composition: Composition
) -> dict[str, nn.Parameter]:
    """The parameters that runs hold, with their values; all others must be what they were in every run."""
    learnt: dict[str, nn.Parameter] = {}
    for run, names in zip(runs, composition.names, strict=True):
        for name, place, value in run.renamed(names):
            if place not in parameters:
                raise ValueError(f"{run.folder}: it holds {name}, which the runs put together have no place for")
            if name in run.saved:
                parameters[place].data.copy_(value)
                learnt[place] = parameters[place]
    for run, names in zip(runs, composition.names, strict=True):
        for name, place, value in run.renamed(names):
            if not torch.equal(parameters[place], value):
                raise ValueError(
                    f"{run.folder}: its {name} is not that of the other runs; put runs together that began with the "
                    "same weights and trained their conditions alone"
                )
    return learnt


def _stream(runs: Sequence[_Learnt]) -> dict[str, Any]:
    """The first run's state, its data being that of all runs, for what tells of it."""
    state = dict(runs[0].notes.stream)
    sources = [source for run in runs for source in run.notes.stream["eras"][-1]["sources"]]
    return state | {"eras": [state["eras"][-1] | {"sources": sources}]}
