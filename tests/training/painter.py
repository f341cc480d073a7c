"""A family that draws at once what it was asked to: noise of a picture's number, beside the means of its references."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from tests.training.stream.runs import write_run
from training.config import Group, Recipe
from training.families.base import Conditions, Losses, SampleConfig
from training.fit.fit import FitSettings, run_fit
from training.noise import Noise
from training.stream.buckets import Buckets
from training.stream.options import StreamOptions
from training.stream.prompts.unimo_g import UnimoG
from training.stream.recipe import StreamRecipe
from training.stream.source import Dataset
from training.stream.tensors import BatchTensors

LONGEST = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class PainterConfig:
    sees_targets: ClassVar[bool] = True
    contrasts_samples: ClassVar[bool] = False

    def build(self, *, load: bool = True) -> nn.Module:
        return Painter()


class Painter(nn.Module):
    insertion = "replace"

    def __init__(self) -> None:
        super().__init__()
        self.shade = nn.Parameter(torch.zeros(1))
        self.drawn: list[int] = []

    def units(self) -> Sequence[nn.Module]:
        return []

    def forward(self, tensors: BatchTensors, noise: Noise) -> Losses:
        loss = (self.shade - tensors.images.float().mean() / 255).square().mean()
        return Losses(total=loss, terms={"shade": loss.detach()})

    def sample(self, conditions: Conditions, config: SampleConfig, first: int = 0) -> Tensor:
        if (config.steps or 1) > 1000:
            raise ValueError(f"steps must be 1 to 1000, got {config.steps}")
        if any(len(prompt.text) > LONGEST for prompt in conditions.prompts):
            raise ValueError(f"the prompt is longer than {LONGEST} characters: shorten it")
        width, height = config.size or (16, 16)
        numbers = range(first, first + len(conditions))
        self.drawn += numbers
        pictures = Noise(config.seed, 0, numbers).uniform("picture", (height, width, 3)) * 255
        for picture, references in zip(pictures, conditions.references, strict=True):
            for place, reference in enumerate(references):
                picture[place] = reference.float().mean(dim=(0, 1))
        return pictures.to(torch.uint8)


def painter_recipe(**changes: Any) -> Recipe:
    recipe = Recipe(
        name="painter",
        family=PainterConfig(),
        stream=StreamRecipe(
            builder=UnimoG(side=24, fill=(9, 9, 9)), buckets=Buckets(ratios=(1.0,), base=32, multiple=16)
        ),
        batch_size=4,
        micro_batch=4,
        steps=2,
        groups=(Group(names="*", mode="full", lr=0.1),),
        precision="float32",
        ema=0.5,
        save_every=1,
        sample=SampleConfig(size=(8, 12)),
    )
    return replace(recipe, **changes)


def fit_painter(folder: Path, **changes: Any) -> Path:
    """A run of two steps, with a checkpoint of each; changes of its recipe."""
    data = write_run(folder / "data", units=1, rows=8)
    options = StreamOptions(cache=folder / "cache", window=64, block=4, threads=1)
    recipe, out = painter_recipe(**changes), folder / "run"
    run_fit(FitSettings(recipe=recipe, data=(Dataset(url=str(data)),), out=out, options=options))
    return out
