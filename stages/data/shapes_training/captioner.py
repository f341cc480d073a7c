"""Trains the captioner of the shapes world, from nothing or from a published one: Florence-2, tiny.

Captions alone teach seeing very slowly. So the picture's cells are asked first what thing is on each, in which colour
and texture and how far its middle is, and after the encoder which thing in the caption it is; what answers that is
thrown away.

Usage: ``python -m stages.data.shapes_training.captioner --out FOLDER --cache FOLDER [--from FOLDER] [--resume] …``; see
``--help``.
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from stages.data.shapes_training.captioner_network import (
    CELL,
    CELLS,
    QUESTION,
    SIDE,
    WIDTH,
    adopt,
    make_image_processor,
    make_model,
    make_tokenizer,
)
from stages.data.shapes_training.run import Plan, Run
from stages.data.shapes_training.scene_cache import (
    BACKDROPS,
    NOUNS,
    Array,
    Recipe,
    SceneCache,
    build,
    load_photographs,
    open_cache,
)
from stages.models.canvas import Canvas
from stages.shapes.grammar import caption
from stages.shapes.scene import SceneSettings
from stages.shapes.words import COLOURS, TEXTURES

# After captioner_network, which mends torchvision.
from transformers import Florence2ForConditionalGeneration, PreTrainedTokenizerFast  # isort: skip
from transformers.modeling_outputs import BaseModelOutput  # isort: skip

_LEAST = 0.15
"""Share of a cell that things must cover for it to be asked about them."""
_NONE = -100
_SIZES = 0.2, 0.45
"""Of things, as shares of the short side: somewhat smaller ones than are to be captioned."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Scenes with all that is asked about them.

    Attributes:
        pixels: (scene, channel, side, side), normalised.
        tokens: (scene, token): of the caption and its end; -100 after.
        cells: (scene, row, column, 4): noun, colour, texture and place in the caption of the thing there; -100 on none,
            but the noun is 0 on none, and else its index + 1.
        offsets: (scene, row, column, 2): from the cell's middle to the thing's, x and y, in quarters of the side.
        backdrops: (scene,).
    """

    pixels: Tensor
    tokens: Tensor
    cells: Tensor
    offsets: Tensor
    backdrops: Tensor


def draw_batch(cache: SceneCache, tokens: Array, rng: np.random.Generator, size: int) -> Batch:
    """Random scenes, half of them mirrored.

    Args:
        cache: Of scenes.
        tokens: (scene, 2, token): of the captions as it is and mirrored.
        rng: Chooses.
        size: How many.
    """
    chosen, flips = np.sort(rng.integers(len(cache), size=size)), rng.integers(2, size=size)
    pixels, cells, offsets = [], [], []
    for number, flip in zip(chosen, flips, strict=True):
        step = -1 if flip else 1
        pixels.append(cache.pixels[number][:, ::step])
        owners = _cell_owners(cache.owners[number][:, ::step])
        things, boxes, count = cache.things[number].astype(np.int64), cache.boxes[number], int(cache.counts[number])
        if flip:
            things[:, 3] = count - 1 - things[:, 3]
            boxes = np.stack([SIDE - boxes[:, 2], boxes[:, 1], SIDE - boxes[:, 0], boxes[:, 3]], axis=1)
        cells.append(_said(owners, things))
        offsets.append(_offsets(owners, boxes))
    return Batch(
        _normalised(np.stack(pixels)),
        torch.tensor(tokens[chosen, flips]),
        torch.tensor(np.stack(cells)),
        torch.tensor(np.stack(offsets), dtype=torch.float32),
        torch.tensor(cache.backdrops[chosen], dtype=torch.int64),
    )


def _normalised(pixels: Array) -> Tensor:
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((torch.tensor(pixels) / 255 - mean) / std).permute(0, 3, 1, 2)


def _cell_owners(owners: Array) -> Array:
    """Per cell, 1 more than the index of the thing that covers most of it, or 0."""
    parts = owners.reshape(CELLS, CELL, CELLS, CELL).swapaxes(1, 2).reshape(CELLS, CELLS, CELL**2)
    counts = (parts[..., None] == np.arange(1, 9)).sum(axis=2)
    return np.where(counts.sum(-1) >= _LEAST * CELL**2, counts.argmax(-1) + 1, 0)


def _said(owners: Array, things: Array) -> Array:
    said = things[owners - 1]
    said[..., 0] += 1
    said[owners == 0] = (0, _NONE, _NONE, _NONE)
    return said


def _offsets(owners: Array, boxes: Array) -> Array:
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    y, x = (np.mgrid[:CELLS, :CELLS] + 0.5) * CELL
    return (middles[owners - 1] - np.stack([x, y], axis=-1)) / (SIDE / 4)


class Questions(nn.Module):
    """What is asked about every cell; thrown away after training."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.sizes = (len(NOUNS) + 1, len(COLOURS), len(TEXTURES), most)
        self.norm = nn.LayerNorm(WIDTH)
        self.cells = nn.Linear(WIDTH, sum(self.sizes) + 2)
        self.backdrop = nn.Linear(WIDTH, len(BACKDROPS))

    def forward(self, seen: Tensor, batch: Batch, knows_place: bool) -> tuple[Tensor, list[float]]:
        """Loss and shares of right answers: noun on things, colour, texture, place, backdrop.

        Args:
            seen: (scene, cell, width).
            batch: The truth.
            knows_place: Whether the place in the caption is asked.
        """
        seen = self.norm(seen)
        *answers, offsets = self.cells(seen).split([*self.sizes, 2], dim=-1)
        truths = list(batch.cells.flatten(1, 2).unbind(-1))
        backdrop = self.backdrop(seen.mean(dim=1))
        loss = F.cross_entropy(backdrop, batch.backdrops) * 0.3
        is_thing = truths[1] != _NONE
        loss = loss + F.smooth_l1_loss(offsets[is_thing], batch.offsets.flatten(1, 2)[is_thing])
        right = []
        for answer, truth in list(zip(answers, truths, strict=True))[: 4 if knows_place else 3]:
            loss = loss + F.cross_entropy(answer.flatten(0, 1), truth.flatten(), ignore_index=_NONE)
            right.append((answer.argmax(-1) == truth)[is_thing].float().mean().item())
        return loss, [*right, (backdrop.argmax(-1) == batch.backdrops).float().mean().item()]


class Pupil(nn.Module):
    """The captioner with what asks it."""

    def __init__(self, captioner: Florence2ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.captioner = captioner
        captioner.model.vision_tower.to(memory_format=torch.channels_last)  # as the batches: a fifth faster on CPUs
        self.about_seen = Questions(8)
        self.about_encoded = Questions(8)
        asked = f"{tokenizer.bos_token}{QUESTION}{tokenizer.eos_token}"
        self.question = torch.tensor(tokenizer(asked, add_special_tokens=False).input_ids)

    def see(self, batch: Batch) -> tuple[Tensor, list[float]]:
        """Learn what is where."""
        seen = self.captioner.model.vision_tower(batch.pixels).last_hidden_state
        return self.about_seen(seen.flatten(2).transpose(1, 2), batch, knows_place=False)

    def write(self, batch: Batch) -> tuple[Tensor, list[float]]:
        """Learn what is where, which thing comes when, and the caption."""
        model = self.captioner.model
        seen = model.vision_tower(batch.pixels).last_hidden_state
        loss, right = self.about_seen(seen.flatten(2).transpose(1, 2), batch, knows_place=False)
        question = model.get_input_embeddings()(self.question).expand(len(seen), -1, -1)
        encoder = model.language_model.encoder
        encoded = encoder(inputs_embeds=torch.cat([model.multi_modal_projector(seen), question], dim=1))[0]
        # The projector's first token is the mean of the cells.
        more, more_right = self.about_encoded(encoded[:, 1 : CELLS**2 + 1], batch, knows_place=True)
        found = self.captioner(encoder_outputs=BaseModelOutput(encoded), labels=batch.tokens, use_cache=False)
        is_token = batch.tokens != _NONE
        is_right = (found.logits.argmax(-1) == batch.tokens) | ~is_token
        share = is_right[is_token].float().mean().item()
        figures = [*right, more_right[3], found.loss.item(), share, is_right.all(-1).float().mean().item()]
        return found.loss + 0.3 * loss + 0.3 * more, figures


def encode_captions(captions: Array, tokenizer: PreTrainedTokenizerFast) -> Array:
    """Captions as tokens with the end after them and -100 after that: (scene, 2, token)."""
    rows = [tokenizer(pair.tolist(), add_special_tokens=False).input_ids for pair in captions]
    longest = max(len(row) for pair in rows for row in pair) + 1
    tokens = np.full((len(rows), 2, longest), _NONE, np.int64)
    for pair, scene in zip(rows, tokens, strict=True):
        for row, line in zip(pair, scene, strict=True):
            line[: len(row) + 1] = [*row, tokenizer.eos_token_id]
    return tokens


@torch.inference_mode()
def write_captions(pupil: Pupil, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, seeds: Sequence[int]) -> float:
    """Share of scenes whose caption comes out exactly."""
    look, right = make_image_processor(), 0
    for start in range(0, len(seeds), 32):
        scenes = [recipe.hold(seed) for seed in seeds[start : start + 32]]
        pixels = look([drawn.pixels for _, drawn in scenes], return_tensors="pt").pixel_values
        question = torch.cat([torch.full((CELLS**2 + 1,), pupil.captioner.config.image_token_id), pupil.question])
        captioner: Any = pupil.captioner
        tokens = captioner.generate(pixel_values=pixels, input_ids=question.expand(len(pixels), -1))
        written = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        right += sum(text == caption(scene) for text, (scene, _) in zip(written, scenes, strict=True))
    return right / len(seeds)


@dataclass(frozen=True, slots=True)
class Lessons:
    """What is learnt from.

    Attributes:
        crowded: Scenes of many things, to learn to see.
        scenes: Scenes as they are.
        tokens: Of the captions of ``scenes``.
        seeing: Steps that go to the crowded scenes.
        size: Scenes a step.
    """

    crowded: SceneCache
    scenes: SceneCache
    tokens: Array
    seeing: int
    size: int


def learn(run: Run, lessons: Lessons, rng: np.random.Generator) -> list[float]:
    """Take a step."""
    pupil = run.model
    assert isinstance(pupil, Pupil)
    if run.step < lessons.seeing:
        no_tokens = np.zeros((len(lessons.crowded), 2, 1), np.int64)
        loss, figures = pupil.see(draw_batch(lessons.crowded, no_tokens, rng, lessons.size))
    else:
        loss, figures = pupil.write(draw_batch(lessons.scenes, lessons.tokens, rng, lessons.size))
    run.learn(loss)
    return [loss.item(), *figures]


def train(run: Run, lessons: Lessons, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Take the steps that are left, and tell and save how it goes."""
    began, told = time.monotonic(), []
    for rng in run.generators():
        told.append(learn(run, lessons, rng))
        if run.step % 25 == 0 or run.step == lessons.seeing:
            means = np.mean(told, axis=0).round(3).tolist()
            print(run.step, round(time.monotonic() - began), *means, flush=True)
            told = []
        if run.step % 200 == 0 or run.step == run.plan.steps:
            run.save(out / "run.pt")
            if run.step > lessons.seeing:
                report(run, tokenizer, 128)


def report(run: Run, tokenizer: PreTrainedTokenizerFast, scenes: int) -> None:
    """Tell how often the averaged weights are right on held-out scenes."""
    pupil = averaged(run, tokenizer)
    recipe = Recipe(Canvas(SIDE, is_padded=False), SceneSettings())
    print(run.step, "exact", write_captions(pupil, tokenizer, recipe, range(scenes)), flush=True)


def averaged(run: Run, tokenizer: PreTrainedTokenizerFast) -> Pupil:
    """The captioner with the averaged weights."""
    pupil = Pupil(make_model(tokenizer), tokenizer)
    pupil.load_state_dict(run.averaged)
    return pupil.eval()


def publish(run: Run, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write all that transformers reads, weights in half precision."""
    averaged(run, tokenizer).captioner.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    make_image_processor().save_pretrained(folder)


def main() -> None:
    """Train, and publish what was learnt."""
    asked = _parser().parse_args()
    if asked.seeing is None:
        asked.seeing = 0 if asked.start else 800
    asked.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(steps=asked.steps, lr=asked.lr, warmup=100, muon=("vision_tower.blocks", "layers", "image_projection"))
    torch.manual_seed(plan.seed)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    if asked.start:
        adopt(model, asked.start)
    run = Run(Pupil(model, tokenizer), plan)
    if asked.resume:
        run.restore(asked.out / "run.pt")
    train(run, prepare(asked, tokenizer), tokenizer, asked.out)
    publish(run, tokenizer, asked.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True, help="folder of drawn scenes; filled if need be")
    start = "folder of a published captioner to begin with the weights of; its pictures may have had another size"
    parser.add_argument("--from", type=Path, dest="start", metavar="FOLDER", help=start)
    parser.add_argument("--photographs", type=Path, help="folder of JPEGs to use as backdrops")
    parser.add_argument("--shards", type=int, default=12, help="of 1000 scenes")
    parser.add_argument(
        "--textured", type=int, default=0, help="more shards, of scenes with two textured things or more"
    )
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeing", type=int, help="steps before there are captions; 800, or none with --from")
    parser.add_argument("--size", type=int, default=32, help="scenes a step")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in --out")
    return parser


def prepare(asked: argparse.Namespace, tokenizer: PreTrainedTokenizerFast) -> Lessons:
    """Draw the scenes that are not drawn yet."""
    canvas, photographs = Canvas(SIDE, is_padded=False), load_photographs(asked.photographs)
    settings = SceneSettings(sizes=_SIZES, photographs=0.1 if photographs else 0.0)
    plain = Recipe(canvas, settings, photographs)
    scenes = [asked.cache / "scenes", asked.cache / "textured"]
    build(scenes[0], range(asked.shards), plain)
    build(scenes[1], range(asked.shards, asked.shards + asked.textured), replace(plain, least_textured=2))
    cache = open_cache(*scenes)
    return Lessons(
        _crowded(asked, plain) if asked.seeing else cache,
        cache,
        encode_captions(cache.captions, tokenizer),
        asked.seeing,
        asked.size,
    )


def _crowded(asked: argparse.Namespace, recipe: Recipe) -> SceneCache:
    more = replace(recipe, settings=replace(recipe.settings, max_things=7), least=4)
    build(asked.cache / "crowded", range(asked.shards), more)
    return open_cache(asked.cache / "crowded")


if __name__ == "__main__":
    main()
