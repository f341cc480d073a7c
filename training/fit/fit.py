"""A run of training from its settings: the parts are made, joined and set going."""

import sys
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar, cast

import torch
from torch import nn

from training.config import Recipe
from training.fit.checkpoint import Checkpoints, check, committed, read_notes
from training.fit.ema import Ema
from training.fit.flops import Meter
from training.fit.grid import Grid
from training.fit.groups import make_optimiser, set_modes, trainables
from training.fit.lock import locked
from training.fit.log import open_logs
from training.fit.loop import Draw, Fit
from training.fit.made_with import told_changes
from training.fit.memory import explained_shortage
from training.fit.parallel import Layout, Mode, spread
from training.fit.preflight import activations_told, preflight, told
from training.fit.runs import (
    CHECKPOINTS,
    SAMPLES,
    at_revisions,
    build,
    check_run,
    checkpoint_of,
    read_revisions,
    read_start,
    read_version,
    told_schedule,
    write_recipe,
)
from training.fit.schedule import make_schedule
from training.fit.skip import Skips
from training.fit.state import load_weights, restore
from training.fit.tracking import Tracker, check_trackers
from training.fit.world import device_of_rank, joined
from training.stream.options import StreamOptions
from training.stream.source import Dataset
from training.stream.stream import PromptStream
from training.stream.tensors import BatchTensors, to_tensors
from training.stream.world import World
from training.weights import cached_revisions

T = TypeVar("T")
Resume: TypeAlias = Literal["no", "yes", "if_any"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """What a run is, and where it goes on.

    Attributes:
        recipe: What is learnt.
        data: Data sets that it learns from.
        out: Folder of the run.
        resume: ``no``: the run must be new; ``yes``: it must be there; ``if_any``: either.
        start_from: Folder of another run, whose newest weights a new run begins with.
        mode: How the ranks share the work.
        device: Of this rank; ``None``: its GPU if there is one.
        options: How the stream reads; ``accumulation`` and ``pin`` are the trainer's to say.
        track: Where figures go beside the run's own log.
        show: Tell on stderr what is needed before the first step, and how far the run is.
    """

    recipe: Recipe
    data: tuple[Dataset, ...]
    out: Path
    resume: Resume = "no"
    start_from: Path | None = None
    mode: Mode = "auto"
    device: str | None = None
    options: StreamOptions = field(default_factory=StreamOptions)
    track: tuple[Tracker, ...] = ()
    show: bool = False

    def layout(self, device: torch.device, world: World) -> Layout:
        """Where a rank's family is computed."""
        return Layout(mode=self.mode, device=device, size=world.size)


def run_fit(settings: FitSettings, draw: Draw | None = None) -> None:
    """Train to the recipe's last step; in every rank, within the process group that is there or one of its own.

    Args:
        settings: The same on every rank.
        draw: How samples are drawn where the recipe wants some; else as grids in the run's folder.

    Raises:
        RunError: If the run may not begin here; nothing is written then, as with the next two.
        PreflightError: If it could not work.
        MemoryShortageError: If a step does not fit into the GPU's memory.
        ImportError: If the package of a tracker is missing.
        ValueError: If recipe, family, data or number of ranks don't fit each other.
        DivergedError: If too many steps in a row could not be taken.
        DamagedError: If the checkpoint to go on from, or to begin with, is not what was written.
        StoppedError: If this process or another was asked to end; the last step is saved.
    """
    device = device_of_rank(settings.device)
    with ExitStack() as held, joined(device) as world, open_stream(settings, world, device) as stream:
        settings = replace(settings, start_from=_on_first(world, lambda: _start(settings)))
        revisions = _on_first(world, lambda: _check(settings, stream, device))
        _on_first(world, lambda: held.enter_context(locked(settings.out)))
        fit = assemble(replace(settings, recipe=at_revisions(settings.recipe, revisions)), stream, device)
        fit.draw = draw or _grid(settings, world)
        fit.shown = first_batch(settings, world, device) if settings.recipe.sample_every else None
        revisions = {**cached_revisions(settings.recipe.family), **revisions}
        if stream.step <= settings.recipe.steps:
            _on_first(world, lambda: write_recipe(settings.out, settings.recipe, revisions, settings.start_from))
        file = sys.stderr if settings.show else None
        if file is not None and world.rank == 0 and stream.step >= settings.recipe.steps:
            print(f"{settings.out} is at step {stream.step}: nothing is left to do; --steps takes more", file=file)
        logs = open_logs(settings.out, settings.recipe, settings.track, stream.step, file) if world.rank == 0 else None
        with logs or nullcontext() as fit.log, explained_shortage(settings.recipe), fit.stop.listening():
            fit.run()


def accumulation(recipe: Recipe, size: int) -> int:
    """The fewest equal parts, none larger than ``micro_batch``, in which each of ``size`` ranks takes its share.

    Raises:
        ValueError: If the batch can't be shared evenly, or ``micro_batch`` is none.
    """
    if recipe.micro_batch < 1:
        raise ValueError(f"micro_batch must be at least 1, got {recipe.micro_batch}")
    share = len(World(size=size).slots(recipe.batch_size, 1, 0))
    return next(parts for parts in range(-(-share // recipe.micro_batch), share + 1) if share % parts == 0)


def assemble(settings: FitSettings, stream: PromptStream, device: torch.device) -> Fit:
    """All that a loop works on, standing where the run's newest checkpoint stands."""
    recipe, world = settings.recipe, stream.world
    checkpoints = Checkpoints(settings.out / CHECKPOINTS, recipe.keep, world)
    newest, carried, skips = checkpoints.newest(), frozenset[str](), Skips()
    family, trained = build(recipe)
    if settings.start_from is not None and newest is None:
        carried = _start_from(settings.start_from, family, recipe, world)
    spread(family, recipe, settings.layout(device, world))
    set_modes(family)
    optimiser = make_optimiser(family, trained, recipe.optimiser)
    ema = None if recipe.ema is None else Ema(trainables(family), recipe.ema)
    if newest is not None:
        check(newest, world)
        notes = read_notes(newest, type(recipe.family).__name__)
        if settings.show and world.rank == 0 and (changes := told_changes(notes.versions)):
            print(changes, file=sys.stderr)
        stream.load_state_dict(notes.stream)
        carried, skips = restore(newest, family, optimiser, ema), notes.skips
    return Fit(
        recipe=recipe,
        family=family,
        stream=stream,
        optimiser=optimiser,
        schedule=make_schedule(optimiser, recipe.schedule, recipe.steps, stream.step),
        ema=ema,
        skips=skips,
        checkpoints=checkpoints,
        carried=carried,
        device=device,
        meter=Meter.of(device),
    )


def open_stream(settings: FitSettings, world: World, device: torch.device) -> PromptStream:
    """The batches of a rank."""
    recipe, parts = settings.recipe, accumulation(settings.recipe, world.size)
    return PromptStream(
        settings.data,
        recipe=recipe.stream,
        batch_size=recipe.batch_size,
        seed=recipe.seed,
        world=world,
        options=replace(settings.options, accumulation=parts, pin=device.type == "cuda"),
    )


def first_batch(settings: FitSettings, world: World, device: torch.device) -> BatchTensors:
    """What the run's first step sees of a part of its batch, so that grids of all steps can be compared."""
    here = replace(settings, options=replace(settings.options, readers=0))
    with open_stream(here, world, device) as stream:
        return to_tensors(next(stream), device)


def _start(settings: FitSettings) -> Path | None:
    """The run that this one begins with, or began with; one that ended before its first checkpoint begins so again."""
    if settings.start_from is None or committed(settings.out / CHECKPOINTS):
        return read_start(settings.out)
    return settings.start_from


def _check(settings: FitSettings, stream: PromptStream, device: torch.device) -> dict[str, str]:
    """See that the run can work; the commits of the hub's models that it took before, that the run it begins with took,
    or that are in this machine's cache.
    """
    if settings.resume == "yes":
        read_version(settings.out)
    check_run(settings.out, settings.recipe, may_resume=settings.resume != "no")
    check_trackers(settings.track)
    if settings.start_from is not None and not committed(settings.out / CHECKPOINTS):
        checkpoint_of(settings.start_from)
    layout = settings.layout(device, stream.world)
    memory, features = preflight(settings.recipe, stream, layout, settings.out)
    if settings.show:
        if (bent := told_schedule(settings.out, settings.recipe)) is not None:
            print(bent, file=sys.stderr)
        print(told(memory, features), file=sys.stderr)
        print(activations_told(settings.recipe, stream, layout, memory), file=sys.stderr)
    begun = read_revisions(settings.start_from) if settings.start_from else {}
    return {**cached_revisions(settings.recipe.family), **begun, **read_revisions(settings.out)}


def _grid(settings: FitSettings, world: World) -> Grid:
    return Grid(
        folder=settings.out / SAMPLES, group=world.group, is_first=world.rank == 0, config=settings.recipe.sample
    )


def _on_first(world: World, act: Callable[[], T]) -> T:
    """What the first rank finds, on all of them; what it can't do, no rank goes on from."""
    found: T | Exception | None = None
    if world.rank == 0:
        try:
            found = act()
        except (OSError, ValueError, ImportError) as error:
            found = error
    found = world.group.share(found)
    if isinstance(found, Exception):
        raise found
    return cast(T, found)


def _start_from(folder: Path, family: nn.Module, recipe: Recipe, world: World) -> frozenset[str]:
    """Take another run's weights; the names of those that are frozen in this one."""
    path = checkpoint_of(folder)
    check(path, world)
    read_notes(path, type(recipe.family).__name__)
    return frozenset(load_weights(path, family, ema=True)) - trainables(family).keys()
