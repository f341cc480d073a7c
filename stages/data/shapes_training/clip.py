"""Trains the CLIP of the shapes world from nothing: scenes with their captions, things cut out with their phrases.

Words name six hues; a picture's vector should tell any. So the vectors of pictures are also asked which noun is in
which place, in which texture and hue; what answers that is thrown away.

Usage: ``python -m stages.data.shapes_training.clip --out FOLDER [--resume] …``; see ``--help``.
"""

import argparse
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from stages.data.shapes_training.clip_network import WIDTH, make_image_processor, make_model, make_tokenizer
from stages.data.shapes_training.clip_scenes import FIRST_SEED, NONE, SPOTS, Seen, show
from stages.data.shapes_training.run import Plan, Run
from stages.models.clip_pixels import OPENAI_MEAN, OPENAI_STD
from stages.shapes.words import SHAPES, TEXTURES

# After clip_network, which mends torchvision.
from transformers import CLIPModel, CLIPTokenizer  # isort: skip

_HOTTEST = math.log(100)
"""Radford et al. 2021, section 2.5: logits are scaled by no more than 100."""
_ANSWERS = len(SHAPES) + 1, len(TEXTURES), 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures with their texts.

    Attributes:
        pixels: (picture, channel, side, side), normalised.
        tokens: (picture, token).
        alike: (picture, picture): whether the texts are the same; each row sums to 1.
        nouns, textures: (picture, spot).
        hues: (picture, spot, 2): cosine and sine; NaN where not asked.
    """

    pixels: Tensor
    tokens: Tensor
    alike: Tensor
    nouns: Tensor
    textures: Tensor
    hues: Tensor


def collate(seen: Sequence[Seen], tokenizer: CLIPTokenizer) -> Batch:
    """The batch of some pictures."""
    texts = np.array([each.text for each in seen])
    same = torch.tensor(texts[:, None] == texts).float()
    turns = np.radians(np.stack([each.hues for each in seen]))
    return Batch(
        normalised(np.stack([each.pixels for each in seen])),
        tokenizer(texts.tolist(), padding=True, return_tensors="pt").input_ids,
        same / same.sum(dim=1, keepdim=True),
        torch.tensor(np.stack([each.nouns for each in seen])),
        torch.tensor(np.stack([each.textures for each in seen])),
        torch.tensor(np.stack([np.cos(turns), np.sin(turns)], axis=-1)),
    )


def normalised(pixels: np.ndarray[Any, Any]) -> Tensor:
    """Pictures as the network takes them."""
    mean, std = torch.tensor(OPENAI_MEAN), torch.tensor(OPENAI_STD)
    return ((torch.tensor(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)


class Batches(Dataset[Batch]):
    """The batch of each step, by the scenes' seeds: always the same for a step."""

    def __init__(self, tokenizer: CLIPTokenizer, steps: int, size: int) -> None:
        self._tokenizer, self._steps, self._size = tokenizer, steps, size

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> Batch:
        first = FIRST_SEED + step * self._size
        return collate(list(show(range(first, first + self._size))), self._tokenizer)


class Pupil(nn.Module):
    """The network with what asks it."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip
        self.asked = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(SPOTS) * sum(_ANSWERS)))

    def forward(self, batch: Batch) -> tuple[Tensor, list[float]]:
        """Loss and figures: contrast, noun, texture, hue; shares of right texts, nouns and textures."""
        vectors = self.clip.get_image_features(pixel_values=batch.pixels).pooler_output
        pooled = self.clip.get_text_features(input_ids=batch.tokens).pooler_output
        logits = F.normalize(vectors) @ F.normalize(pooled).T * self.clip.logit_scale.clamp(max=_HOTTEST).exp()
        contrast = (F.cross_entropy(logits, batch.alike) + F.cross_entropy(logits.T, batch.alike)) / 2
        nouns, textures, hues = self.asked(vectors).unflatten(1, (len(SPOTS), -1)).split(_ANSWERS, dim=-1)
        is_thing = batch.textures != NONE
        losses = [
            contrast,
            F.cross_entropy(nouns.flatten(0, 1), batch.nouns.flatten()),
            F.cross_entropy(textures[is_thing], batch.textures[is_thing]),
            F.mse_loss(hues[is_thing], batch.hues[is_thing]),
        ]
        right = [
            batch.alike.gather(1, logits.argmax(1)[:, None]) > 0,
            (nouns.argmax(-1) == batch.nouns)[batch.nouns > 0],
            textures[is_thing].argmax(-1) == batch.textures[is_thing],
        ]
        figures = [*(loss.item() for loss in losses), *(share.float().mean().item() for share in right)]
        return contrast + losses[1] + losses[2] + 2 * losses[3], figures


def train(run: Run, batches: DataLoader[Batch], out: Path) -> None:
    """Take the steps that are left, and tell and save how it goes."""
    began, told = time.monotonic(), []
    for batch in batches:
        loss, figures = run.model(batch)
        run.learn(loss)
        told.append(figures)
        if run.step % 25 == 0:
            means = np.mean(told, axis=0).round(3).tolist()
            print(run.step, round(time.monotonic() - began), *means, flush=True)
            told = []
        if run.step % 200 == 0 or run.step == run.plan.steps:
            run.save(out / "run.pt")


def publish(run: Run, tokenizer: CLIPTokenizer, folder: Path) -> None:
    """Write all that transformers reads: the averaged weights, in half precision."""
    pupil = Pupil(make_model(tokenizer))
    pupil.load_state_dict(run.averaged)
    pupil.clip.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    make_image_processor().save_pretrained(folder)


def main() -> None:
    """Train, and publish what was learnt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1700)
    parser.add_argument("--size", type=int, default=64, help="scenes a step; each is shown twice or more")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw; 0: this one")
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(steps=asked.steps, lr=asked.lr, warmup=100, muon=("encoder.layers",), ema=0.995)
    torch.manual_seed(plan.seed)
    tokenizer = make_tokenizer()
    run = Run(Pupil(make_model(tokenizer)), plan)
    if asked.resume:
        run.restore(asked.out / "run.pt")
    scenes = Batches(tokenizer, plan.steps, asked.size)
    left = range(run.step, plan.steps)
    train(run, DataLoader(scenes, batch_size=None, sampler=left, num_workers=asked.workers), asked.out)
    publish(run, tokenizer, asked.out)


if __name__ == "__main__":
    main()
