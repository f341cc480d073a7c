"""The first samples of a data set, read before a run begins."""

from collections.abc import Iterator, Sequence
from itertools import cycle, islice

from training.stream.catalog import Entry
from training.stream.collate import Batch, Place, collate
from training.stream.example import Example, SampleError, parse_example
from training.stream.fill import ReadNow, taken
from training.stream.keyed import Draws
from training.stream.members import cut_members
from training.stream.prepare import prepare
from training.stream.prompts.lambda_eclipse import LambdaEclipse
from training.stream.recipe import StreamRecipe
from training.stream.snapshot import DatasetError, Snapshot
from training.stream.source import Source

_LOOKED_AT = 4
"""Samples of each data set; it is unfit if none of them will do, as single ones may be damaged."""


def first_examples(source: Source, recipe: StreamRecipe) -> tuple[Example, ...]:
    """The good ones of a data set's first samples, from different buckets.

    Raises:
        DatasetError: If nothing is committed, no sample is there, no subject has a mask where masks are wanted, or no
            sample has the control image that the builder wants of each.
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
    if isinstance(recipe.builder, LambdaEclipse) and recipe.builder.control:
        _check_control(source.url, recipe.builder.control, good)
    return tuple(good)


def features_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """What features the first of them has: ``name: model at revision``."""
    return tuple(f"{each.name}: {each.model} at {each.revision}" for each in examples[0].features)


def part_of(examples: Sequence[Example], recipe: StreamRecipe, samples: int) -> Batch:
    """So many samples in the bucket of the most pixels: the examples over and over, each as its first epoch has it.

    Raises:
        SampleError: If one can't be framed as that bucket wants it.
    """
    sizes = recipe.buckets.sizes
    size = max(sizes, key=lambda sides: sides[0] * sides[1])
    made = [prepare(example, recipe, size, Draws(0, 0, example.key)) for example in examples]
    return collate(list(islice(cycle(made), samples)), Place(epoch=0, step=0, ratio=size[0] / size[1], size=size))


def _check_masks(url: str, examples: Sequence[Example]) -> None:
    subjects = [subject for example in examples for subject in example.subjects]
    if subjects and not any(subject.mask for subject in subjects):
        raise DatasetError(
            f"{url}: none of the first {len(subjects)} subjects has a mask, which the recipe wants; add a segment node "
            "to the manifest, or set masks=False in the recipe's stream and train without the loss that needs them"
        )


def _check_control(url: str, kind: str, examples: Sequence[Example]) -> None:
    if not any(kind in example.controls for example in examples):
        raise DatasetError(
            f"{url}: none of the first {len(examples)} samples has a {kind} image, which the recipe's builder wants; "
            "add a control node to the manifest and embed what it makes, or set control=None in the builder and train "
            "without"
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
