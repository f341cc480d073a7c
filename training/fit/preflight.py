"""What would make a run impossible, told before its first step, all of it at once."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from training.choices import slips
from training.config import Recipe
from training.fit.activations import EstimateError, activations_of
from training.fit.examples import features_of, first_examples, part_of
from training.fit.groups import outlined
from training.fit.memory import Memory, available, in_gib, memory_of, shortage
from training.fit.parallel import Layout
from training.stream.example import SampleError
from training.stream.snapshot import DatasetError
from training.stream.stream import PromptStream


class PreflightError(ValueError):
    """A run that can't work; the message has a line for each reason."""


def preflight(recipe: Recipe, stream: PromptStream, layout: Layout, out: Path) -> tuple[Memory, tuple[str, ...]]:
    """The memory that a rank will need, and whose features the data has.

    Raises:
        PreflightError: If a word in the recipe is none there is, it trains nothing, parts of its family don't fit each
            other, memory or the disk of ``out`` is too small, the batch is taken in parts that the family can't be
            given, or the data lacks commits or what the recipe reads of every sample.
    """
    problems = list(slips(recipe))
    if problems:
        raise PreflightError(_listed(problems))
    memory = None
    try:
        family = outlined(recipe)
        memory = memory_of(family, recipe, layout.shards)
        whole = memory_of(family, recipe, 1)
        found_out = [shortage(memory, available(layout.device), layout.device), disk_shortage(whole, recipe.keep, out)]
        problems += [said for said in (*found_out, _pixel_shortage(recipe), _parting(recipe, stream)) if said]
    except ValueError as error:
        problems.append(str(error))
    found = tuple(_features(stream, problems))
    if problems or memory is None:
        raise PreflightError(_listed(problems))
    return memory, found


def _listed(problems: Sequence[str]) -> str:
    return "this run can't work:" + "".join(f"\n  - {problem}" for problem in problems)


def disk_shortage(memory: Memory, keep: int, out: Path) -> str | None:
    """What to say if a run's disk can't hold its checkpoints and one being written; ``None`` if it can.

    Args:
        memory: Of the run on one rank.
        keep: Checkpoints kept.
        out: Folder of the run; what it holds already is not needed again.
    """
    folder = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    held = sum(file.stat().st_size for file in out.rglob("*.safetensors"))
    needed = (memory.masters + memory.moments + memory.averages) * (keep + 1)
    free = shutil.disk_usage(folder).free
    if needed - held <= free:
        return None
    return (
        f"too little disk: {keep} checkpoints and one being written take {in_gib(needed)}, but {folder} has "
        f"{in_gib(free)} free; set keep={max(keep // 2, 1)}, or give another --out"
    )


def _pixel_shortage(recipe: Recipe) -> str | None:
    if recipe.stream.pixels or not (recipe.family.sees_targets or recipe.sample_every):
        return None
    who = "the family learns from them" if recipe.family.sees_targets else "sample_every draws grids that show them"
    return f"pixels=False in the recipe's stream leaves targets out, but {who}: set pixels=True"


def _parting(recipe: Recipe, stream: PromptStream) -> str | None:
    """What to say if a batch is taken in parts whose loss would be another than the whole one's."""
    parts, size = stream.options.accumulation, stream.world.size
    if parts == 1 or not recipe.family.contrasts_samples:
        return None
    return (
        f"micro_batch={recipe.micro_batch} takes a rank's share of the batch in {parts} parts, but the family's loss "
        f"holds the samples of a whole batch against each other: set micro_batch={recipe.batch_size // size}, where "
        "memory is short with recompute=True; or take more ranks, or a smaller batch_size"
    )


def _features(stream: PromptStream, problems: list[str]) -> Iterator[str]:
    """The features in each data set; what is wrong with one goes to ``problems``."""
    for source in stream.timeline.sources:
        try:
            yield from features_of(first_examples(source, stream.recipe))
        except (DatasetError, SampleError) as error:
            problems.append(f"{source.url}: {str(error).removeprefix(f'{source.url}: ')}")


def told(memory: Memory, features: Sequence[str]) -> str:
    """What is known of a run before its first step."""
    return "\n".join([f"memory: {memory}", *(f"feature {each}" for each in features)])


def activations_told(recipe: Recipe, stream: PromptStream, layout: Layout, memory: Memory) -> str:
    """What a step's activations will take, in words; found by going through it in shapes, which takes seconds."""
    examples = first_examples(stream.timeline.sources[0], recipe.stream)
    samples = len(stream.world.slots(recipe.batch_size, stream.options.accumulation, 0))
    try:
        activations = activations_of(recipe, part_of(examples, recipe.stream, samples), layout)
    except EstimateError as error:
        return str(error)
    return activations.told(memory, available(layout.device), recipe)
