"""How fast a family trains: B10.

``python -m benchmarks.training_step --recipe lambda_eclipse --device cuda`` takes steps of the trainer's own loop at a
recipe's real size, its weights fresh, and tells samples a second, MFU, memory, and where the time goes. Samples are
made up, or, with ``--data``, read from shards as a run reads them, so that waiting for data is told as well.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Annotated, Any, cast

import torch
import typer
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity

from benchmarks.measure import machine
from benchmarks.training_cases import Maker, fresh_family, recipe_of
from training.config import Recipe
from training.fit.checkpoint import Checkpoints
from training.fit.ema import Ema
from training.fit.flops import Meter
from training.fit.groups import choose, make_optimiser, trainables
from training.fit.loop import Fit
from training.fit.memory import memory_of
from training.fit.parallel import Layout, spread
from training.fit.schedule import make_schedule
from training.fit.skip import Skips
from training.fit.world import device_of_rank, joined
from training.stream.collate import Batch
from training.stream.options import StreamOptions
from training.stream.source import Dataset
from training.stream.stream import PromptStream
from training.stream.world import World

Name = Annotated[str, typer.Option(help="A recipe's name")]
Device = Annotated[str, typer.Option(help="cpu or cuda")]
Steps = Annotated[int, typer.Option(min=1, help="Measured")]
WarmUp = Annotated[int, typer.Option(min=1, help="Steps before; in the first one FLOPs are counted")]
MicroBatch = Annotated[int | None, typer.Option(min=1, help="Samples a step; else the recipe's micro_batch")]
Data = Annotated[str | None, typer.Option(help="Shards to read; else samples are made up")]
Readers = Annotated[int, typer.Option(min=0, help="With --data: processes that read; 0: this one")]
Results = Annotated[Path | None, typer.Option(help="JSON file for the figures")]
Averages = Annotated[bool, typer.Option(help="Keep the recipe's moving averages")]
Recompute = Annotated[bool | None, typer.Option(help="Compute activations again; else as the recipe says")]
ProfileFile = Annotated[Path | None, typer.Option("--profile", help="Text file for the operations that take the time")]
Compile = Annotated[bool | None, typer.Option(help="Compile the family's units; else as the recipe says")]


@dataclass(slots=True)
class MadeUp(Iterator[Batch]):
    """A stream of batches that are there already."""

    batches: Sequence[Batch]
    world: World
    options: StreamOptions = field(default_factory=StreamOptions)
    step: int = 0

    def __next__(self) -> Batch:
        self.step += 1
        return self.batches[self.step % len(self.batches)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was measured.

    Attributes:
        recipe: That was trained.
        parameters: Of its family.
        trained: Of these.
        samples: In a step.
        recompute: Whether activations were computed again.
        compile: Whether units were compiled.
        steps: Measured.
        step_s: Seconds of a step, the mean.
        samples_per_s: By that.
        tflops: A step's, recomputation left out; ``None`` where no peak is known.
        mfu: By the device's dense bfloat16 peak.
        memory_gib: The most that was held.
        fixed_gib: Of it, what the estimate says is held before any sample.
        data_wait: Share of the time that steps waited for shards; ``None``: samples were made up.
        model: Share in the family's forward and backward pass, data's way to the device included.
        optimiser: Share in clipping, AdamW, moving averages.
    """

    recipe: str
    parameters: int
    trained: int
    samples: int
    recompute: bool
    compile: bool
    steps: int
    step_s: float
    samples_per_s: float
    tflops: float | None
    mfu: float | None
    memory_gib: float
    fixed_gib: float
    data_wait: float | None
    model: float
    optimiser: float


def main(
    recipe: Name,
    device: Device = "cpu",
    steps: Steps = 20,
    warm_up: WarmUp = 3,
    micro_batch: MicroBatch = None,
    averages: Averages = True,
    recompute: Recompute = None,
    compile: Compile = None,
    data: Data = None,
    readers: Readers = 0,
    profile: ProfileFile = None,
    results: Results = None,
) -> None:
    """Measure and tell."""
    chosen = recipe_of(recipe, micro_batch)
    chosen = replace(
        chosen,
        ema=chosen.ema if averages else None,
        recompute=chosen.recompute if recompute is None else recompute,
        compile=chosen.compile if compile is None else compile,
    )
    place = device_of_rank(device)
    with joined(place) as world:
        stream = _stream(chosen, world, data, readers)
        with stream if isinstance(stream, PromptStream) else nullcontext():
            fit = _prepared(chosen, stream, place)
            figures = _measured(fit, steps, warm_up)
            if profile:
                profile.write_text(_profiled(fit))
    Console().print(_table(figures))
    if results:
        results.write_text(json.dumps({"machine": machine(place.type), **asdict(figures)}, indent=2) + "\n")


def _stream(recipe: Recipe, world: World, data: str | None, readers: int) -> MadeUp | PromptStream:
    if data is None:
        return MadeUp(Maker(recipe).batches(2), world)
    return PromptStream(
        Dataset(url=data),
        recipe=recipe.stream,
        batch_size=recipe.batch_size,
        world=world,
        options=StreamOptions(readers=readers, pin=torch.cuda.is_available()),
    )


def _prepared(recipe: Recipe, stream: MadeUp | PromptStream, device: torch.device) -> Fit:
    """The trainer's loop, that saves nothing."""
    family = fresh_family(recipe, device)
    trained = choose(family, recipe.groups)
    spread(family, recipe, Layout(mode="single", device=device, size=1))
    optimiser = make_optimiser(family, trained, recipe.optimiser)
    return Fit(
        recipe=recipe,
        family=family,
        stream=cast(PromptStream, stream),
        optimiser=optimiser,
        schedule=make_schedule(optimiser, recipe.schedule, recipe.steps),
        ema=None if recipe.ema is None else Ema(trainables(family), recipe.ema),
        skips=Skips(),
        checkpoints=cast(Checkpoints, None),
        carried=frozenset(),
        device=device,
        meter=Meter.of(device),
    )


@dataclass(slots=True)
class Clock:
    """Seconds in parts of a step, the device's work awaited."""

    device: torch.device
    seconds: list[float] = field(default_factory=list)

    def timed(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The same work, timed."""

        def run(*args: Any) -> Any:
            began = self.now()
            result = work(*args)
            self.seconds.append(self.now() - began)
            return result

        return run

    def now(self) -> float:
        """The time when all work is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _measured(fit: Fit, steps: int, warm_up: int) -> Figures:
    """Speed first, undisturbed; then as many steps again, taken apart."""
    with fit.meter.counted():
        fit.take_step()
    for _ in range(warm_up - 1):
        fit.take_step()
    whole = Clock(fit.device)
    waits: list[float] = []
    whole.timed(lambda: waits.extend(fit.take_step().wait_s for _ in range(steps)))()
    step_s = whole.seconds[0] / steps
    model, optimiser = _apart(fit, steps)
    usage = fit.meter.figures(step_s)
    fixed = memory_of(fit.family, fit.recipe, 1)
    return Figures(
        recipe=fit.recipe.name,
        parameters=sum(parameter.numel() for parameter in fit.family.parameters()),
        trained=sum(parameter.numel() for parameter in trainables(fit.family).values()),
        samples=fit.recipe.batch_size,
        recompute=fit.recipe.recompute,
        compile=fit.recipe.compile,
        steps=steps,
        step_s=step_s,
        samples_per_s=fit.recipe.batch_size / step_s,
        tflops=fit.meter.flops / 1e12 if fit.meter.flops else None,
        mfu=usage.get("mfu"),
        memory_gib=usage["memory_gib"],
        fixed_gib=fixed.total / 2**30,
        data_wait=None if isinstance(fit.stream, MadeUp) else mean(waits) / step_s,
        model=model,
        optimiser=optimiser,
    )


def _profiled(fit: Fit) -> str:
    """A table of one step's operations, those first that take the most of the device."""
    kinds = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if fit.device.type == "cuda" else [])
    with torch.profiler.profile(activities=kinds) as profiler:
        fit.take_step()
    return str(profiler.key_averages().table(sort_by=f"self_{fit.device.type}_time_total", row_limit=60))


def _apart(fit: Fit, steps: int) -> tuple[float, float]:
    """Shares of a step's time in the model and in the optimiser."""
    whole, model, optimiser = (Clock(fit.device) for _ in range(3))
    for _ in range(steps):
        whole.timed(lambda: _step(fit, model, optimiser))()
    total = sum(whole.seconds)
    return sum(model.seconds) / total, sum(optimiser.seconds) / total


def _step(fit: Fit, model: Clock, optimiser: Clock) -> None:
    batch = next(fit.stream)
    model.timed(lambda: fit.backward(fit.tensors_of(batch), 0))()
    optimiser.timed(fit.move)()


def _table(figures: Figures) -> Table:
    table = Table(show_header=False, title=figures.recipe)
    rows = {
        "parameters": f"{figures.parameters:,}, of which {figures.trained:,} train",
        "samples a second": f"{figures.samples_per_s:,.1f}, {figures.samples} a step of {figures.step_s:.4f} s",
        "MFU": "unknown" if figures.mfu is None else f"{figures.mfu:.1%} ({figures.tflops:,.1f} TFLOP a step)",
        "memory at most": f"{figures.memory_gib:,.2f} GiB, {figures.fixed_gib:,.2f} GiB of it before any sample",
        "data wait": "made-up samples" if figures.data_wait is None else f"{figures.data_wait:.2%}",
        "model": f"{figures.model:.1%} of the time",
        "optimiser": f"{figures.optimiser:.1%} of the time",
        "other": f"{1 - figures.model - figures.optimiser:.1%} of the time",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


if __name__ == "__main__":
    typer.run(main)
