"""Held-out batches of the arranged shapes world: as they are, with others' references, and with none."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from training.families.base import Losses
from training.families.branches import without_images
from training.noise import Noise
from training.stream.collate import Packed
from training.stream.recipe import StreamRecipe
from training.stream.stream import PromptStream
from training.stream.tensors import BatchTensors, to_tensors
from training.stream.world import World

Given: TypeAlias = Literal["right", "wrong", "none"]
GIVEN: tuple[Given, ...] = ("right", "wrong", "none")

MOST_REFERENCES = 3
"""In a scene."""
_RATES = ("drop_rate", "text_only_rate", "control_drop_rate", "variant_rate")


def undropped(recipe: StreamRecipe) -> StreamRecipe:
    """The same recipe with every reference in its prompt, and nothing left out of it."""
    builder: Any = recipe.builder
    rates = {name: 0.0 for name in _RATES if hasattr(builder, name)}
    always = {"replace_rate": 1.0} if hasattr(builder, "replace_rate") else {}
    return replace(recipe, builder=replace(builder, **rates, **always))


def held_out(folder: str, recipe: StreamRecipe, batches: int, device: torch.device) -> Iterator[BatchTensors]:
    """Batches of 32 in which every prompt has a reference."""
    with PromptStream(folder, recipe=undropped(recipe), batch_size=32, seed=1, world=World()) as stream:
        for _ in range(batches):
            yield to_tensors(next(stream), device)


def given(tensors: BatchTensors, what: Given) -> BatchTensors:
    """The batch with its own references, with those of other samples, or with none but the whole caption."""
    if what == "right":
        return tensors
    return _swapped(tensors) if what == "wrong" else _without(tensors)


def _swapped(tensors: BatchTensors) -> BatchTensors:
    count = len(tensors.references)
    order = [(number + MOST_REFERENCES) % count for number in range(count)] if count else []
    return replace(
        tensors,
        references=tuple(tensors.references[number] for number in order),
        features={
            name: _rolled(value) if name.startswith("subject") else value for name, value in tensors.features.items()
        },
    )


def _rolled(value: Tensor | tuple[Tensor | None, ...]) -> Tensor | tuple[Tensor | None, ...]:
    """Each sample's feature given to another that has one."""
    if isinstance(value, Tensor):
        return value[[-1, *range(len(value) - 1)]]  # roll() takes no float16 under bfloat16's autocast
    there = [number for number, part in enumerate(value) if part is not None]
    donors = dict(zip(there, there[1:] + there[:1], strict=True))
    return tuple(value[donors[number]] if number in donors else None for number in range(len(value)))


def _without(tensors: BatchTensors) -> BatchTensors:
    prompts = tuple(without_images(prompt) for prompt in tensors.batch.prompts)
    batch = replace(tensors.batch, prompts=prompts, references=_nothing(np.uint8), masks=_nothing(np.bool_))
    return replace(tensors, batch=batch, references=(), masks=())


def _nothing(dtype: type[Any]) -> Packed[Any]:
    none = np.zeros(0, np.int64)
    return Packed(np.zeros(0, dtype), (), none, none)


@dataclass(frozen=True, slots=True)
class Probe:
    """What a trained family makes of references it has not met: losses of each batch, by what was given and by term."""

    losses: Mapping[Given, Mapping[str, tuple[float, ...]]]

    def margin(self, other: Given, term: str) -> tuple[float, ...]:
        """By batch: how much the loss rises when something else than the right references is given."""
        return tuple(b - a for a, b in zip(self.losses["right"][term], self.losses[other][term], strict=True))


@torch.no_grad()
def probe(family: nn.Module, batches: list[BatchTensors], draws: int = 4) -> Probe:
    """Losses on held-out batches, with the same noise whatever is given; each is the mean over ``draws`` of it."""
    return Probe({what: _losses(family, [given(each, what) for each in batches], draws) for what in GIVEN})


def _losses(family: nn.Module, batches: list[BatchTensors], draws: int) -> Mapping[str, tuple[float, ...]]:
    rows = [_mean_terms(family, tensors, number * draws, draws) for number, tensors in enumerate(batches)]
    return {name: tuple(row[name] for row in rows) for name in rows[0]}


def _mean_terms(family: nn.Module, tensors: BatchTensors, first: int, draws: int) -> dict[str, float]:
    slots = range(len(tensors.batch))
    found: list[Losses] = [family(tensors, Noise(99, first + draw, slots)) for draw in range(draws)]
    return {name: float(np.mean([losses.terms[name].item() for losses in found])) for name in found[0].terms}
