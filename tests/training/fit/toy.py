"""A family of two frozen and a few trained layers that learns what noise was added to small pictures."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from tests.training.stream.runs import write_run
from training.config import Group, Lora, Optimiser, Recipe, SkipRule
from training.families.base import Conditions, Losses, SampleConfig
from training.fit.fit import FitSettings
from training.noise import Noise
from training.stream.buckets import Buckets
from training.stream.options import StreamOptions
from training.stream.prompts.plain import Plain
from training.stream.recipe import StreamRecipe
from training.stream.source import Dataset
from training.stream.tensors import BatchTensors


@dataclass(frozen=True, slots=True, kw_only=True)
class ToyConfig:
    """Sizes of the toy; from step ``poison`` on its loss is no number; ``diary``: a file of what it saw."""

    sees_targets: ClassVar[bool] = True
    contrasts_samples: ClassVar[bool] = False

    width: int = 16
    dropout: float = 0.0
    poison: int | None = None
    diary: str | None = None

    def build(self, *, load: bool = True) -> nn.Module:
        return Toy(self)


class Block(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.down, self.dropout = nn.Linear(2 * width, width), nn.Dropout(dropout)
        self.seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x + self.dropout(self.down(nn.functional.gelu(self.up(self.norm(x)))))


class Toy(nn.Module):
    insertion = "replace"

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = nn.Sequential(nn.Linear(3, config.width), nn.Dropout(0.5))
        self.inward = nn.Linear(3, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.dropout) for _ in range(2))
        self.head = nn.Linear(config.width, 3)
        self.gain = nn.Parameter(torch.ones(1))
        self.rare = nn.Parameter(torch.zeros(config.width))

    def units(self) -> Sequence[nn.Module]:
        return list(self.blocks)

    def forward(self, tensors: BatchTensors, noise: Noise) -> Losses:
        clean = nn.functional.adaptive_avg_pool2d(tensors.images.permute(0, 3, 1, 2).float() / 127.5 - 1, 4)
        tokens = clean.flatten(2).transpose(1, 2)
        eps = noise.normal("eps", tuple(tokens.shape[1:]), tokens.device)
        with torch.no_grad():
            context = self.encoder(tokens)
        x = self.inward(tokens + eps) + context
        if 0 in noise.slots:  # so that not every rank and part uses it
            x = x + self.rare * (torch.arange(len(x)) == 0)[:, None, None]
        for block in self.blocks:
            x = block(x)
        found = self.head(x).float() * self.gain
        error, size = (found - eps).square().mean(), found.square().mean()
        total = error + 0.01 * size
        if self.config.diary is not None and not isinstance(total, FakeTensor):  # gone through in shapes alone
            _write(Path(self.config.diary), noise, tensors)
        if self.config.poison is not None and noise.step >= self.config.poison:
            total = total * float("nan")
        return Losses(total=total, terms={"error": error.detach(), "size": size.detach()})

    def sample(self, conditions: Conditions, config: SampleConfig, first: int = 0) -> Tensor:
        """Grey pictures, the brighter the larger the output is."""
        width, height = config.size or (8, 8)
        x = self.inward.bias.expand(len(conditions), 1, -1)
        for block in self.blocks:
            x = block(x)
        grey = (self.head(x).float() * self.gain).sum(2, keepdim=True).sigmoid() * 255
        return grey[..., None].expand(-1, height, width, 3).to(torch.uint8)


def _write(diary: Path, noise: Noise, tensors: BatchTensors) -> None:
    rows = zip(noise.slots, tensors.batch.keys, tensors.images.flatten(1).long().sum(1).tolist(), strict=True)
    with diary.open("a") as file:
        file.writelines(f"{noise.step:04d} {slot:04d} {key} {total}\n" for slot, key, total in rows)


def read_diary(diary: Path) -> list[str]:
    """What came at which place of which step, in order."""
    return sorted(diary.read_text().splitlines())


ALL = (Group(names="encoder.*", mode="frozen"), Group(names="*", mode="full", lr=3e-3))
LORA = (Group(names="blocks.*", mode="lora", lr=3e-3, lora=Lora(rank=2, alpha=2.0, targets=("up", "down"))),)

_FAMILY = {field.name for field in fields(ToyConfig)}


def toy_recipe(**changes: Any) -> Recipe:
    """The toy's recipe; changes of it, of its family, or of its skip rule."""
    family = {name: changes.pop(name) for name in changes.keys() & _FAMILY}
    skip = SkipRule(most=changes.pop("most", 10))
    recipe = Recipe(
        name="toy",
        family=ToyConfig(**family),
        stream=StreamRecipe(builder=Plain(), buckets=Buckets(ratios=(1.0,), base=32, multiple=16)),
        batch_size=8,
        micro_batch=8,
        steps=6,
        groups=ALL,
        optimiser=Optimiser(betas=(0.9, 0.99)),
        precision="float32",
        ema=0.9,
        skip=skip,
        save_every=2,
        log_every=1,
    )
    return replace(recipe, **changes)


def toy_settings(data: Path, out: Path, recipe: Recipe | None = None, **changes: Any) -> FitSettings:
    options = StreamOptions(cache=data.parent / "cache", window=64, block=4, threads=1)
    dataset = Dataset(url=str(data))
    return FitSettings(recipe=recipe or toy_recipe(), data=(dataset,), out=out, options=options, **changes)


def write_data(folder: Path) -> Path:
    """Forty samples in two shards."""
    return write_run(folder / "data", units=2, rows=20)
