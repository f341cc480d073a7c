"""What would make a run impossible, told before its first step, all of it at once."""

import shutil
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from training.config import Recipe
from training.fit.groups import outlined
from training.fit.memory import Memory, available, in_gib, memory_of, shortage
from training.fit.parallel import Layout
from training.stream.catalog import Entry
from training.stream.example import Example, SampleError, parse_example
from training.stream.fill import ReadNow, taken
from training.stream.keyed import Draws
from training.stream.members import cut_members
from training.stream.prepare import prepare
from training.stream.recipe import StreamRecipe
from training.stream.snapshot import DatasetError, Snapshot
from training.stream.source import Source
from training.stream.stream import PromptStream

_LOOKED_AT = 4
"""Samples of each data set; it is unfit if none of them will do, as single ones may be damaged."""


class PreflightError(ValueError):
    """A run that can't work; the message has a line for each reason."""


def preflight(recipe: Recipe, stream: PromptStream, layout: Layout, out: Path) -> tuple[Memory, tuple[str, ...]]:
    """The memory that a rank will need, and whose features the data has.

    Raises:
        PreflightError: If the recipe trains nothing, parts of its family don't fit each other, memory or the disk of
            ``out`` is too small, or the data lacks commits or what the recipe reads of every sample.
    """
    problems: list[str] = []
    memory = None
    try:
        family = outlined(recipe)
        memory = memory_of(family, recipe, layout.shards)
        whole = memory_of(family, recipe, 1)
        found_out = [shortage(memory, available(layout.device), layout.device), disk_shortage(whole, recipe.keep, out)]
        problems += [said for said in (*found_out, _pixel_shortage(recipe)) if said]
    except ValueError as error:
        problems.append(str(error))
    found = tuple(_features(stream, problems))
    if problems or memory is None:
        raise PreflightError("this run can't work:" + "".join(f"\n  - {problem}" for problem in problems))
    return memory, found


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


def _features(stream: PromptStream, problems: list[str]) -> Iterator[str]:
    """The features in each data set; what is wrong with one goes to ``problems``."""
    for source in stream.timeline.sources:
        try:
            yield from look(source, stream.recipe)
        except (DatasetError, SampleError) as error:
            problems.append(f"{source.url}: {str(error).removeprefix(f'{source.url}: ')}")


def look(source: Source, recipe: StreamRecipe) -> tuple[str, ...]:
    """What features the first good sample has: ``name: model at revision``.

    Raises:
        DatasetError: If nothing is committed, no sample is there, or no subject has a mask where masks are wanted.
        SampleError: If none of the first samples is what the recipe needs; of the first.
    """
    snapshot = source.freeze(source.refresh(), recipe.buckets)
    entries = list(islice(_entries(snapshot), _LOOKED_AT))
    if not entries:
        raise DatasetError(f"{source.url}: all its units are empty; wait for the engine, or look at its rejects")
    good, errors = list[Example](), list[SampleError]()
    for size, entry in entries:
        try:
            example = _read(source, entry)
            prepare(example, recipe, size, Draws(0, 0, entry.key))
            good.append(example)
        except SampleError as error:
            errors.append(error)
    if not good:
        raise errors[0]
    if recipe.masks:
        _check_masks(source.url, good)
    return tuple(f"{each.name}: {each.model} at {each.revision}" for each in good[0].features)


def _check_masks(url: str, examples: Sequence[Example]) -> None:
    subjects = [subject for example in examples for subject in example.subjects]
    if subjects and not any(subject.mask for subject in subjects):
        raise DatasetError(
            f"{url}: none of the first {len(subjects)} subjects has a mask, which the recipe wants; add a segment node "
            "to the manifest, or set masks=False in the recipe's stream and train without the loss that needs them"
        )


def _entries(snapshot: Snapshot) -> Iterator[tuple[tuple[int, int], Entry]]:
    """Samples with the sizes of their buckets, in turn from all buckets."""
    for number in range(max(snapshot.counts)):
        for bucket, count in enumerate(snapshot.counts):
            if number < count:
                yield snapshot.buckets.sizes[bucket], snapshot.entry(bucket, number)


def _read(source: Source, entry: Entry) -> Example:
    members = cut_members(entry, taken(entry, ReadNow(source.storage, entry.range)), True)
    return parse_example(entry.key, members, entry.width, entry.height)


def told(memory: Memory, features: Sequence[str]) -> str:
    """What is known of a run before its first step."""
    return "\n".join([f"memory: {memory}", *(f"feature {each}" for each in features)])
