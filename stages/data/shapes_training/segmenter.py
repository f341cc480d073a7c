"""Trains the segmenter of the shapes world from nothing: SAM, tiny, prompted with boxes as a detector would give them.

Usage: ``python -m stages.data.shapes_training.segmenter --out FOLDER [--resume] …``; see ``--help``.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from manifests.record import Box
from stages.data.shapes_training.run import Plan, Run
from stages.data.shapes_training.scene_cache import Array, Recipe, SceneCache, build, load_photographs, open_cache
from stages.grabcut import only_inside
from stages.masks import BoolArray
from stages.models.canvas import Canvas
from stages.models.memory import CallSize
from stages.models.sam import Sam
from stages.models.segmenter import BatchSegmenter
from stages.pixels import write_png
from stages.shapes.scene import SceneSettings

from transformers import SamConfig, SamModel  # isort: skip  # after stages.models.sam, which mends torchvision

SIDE = 160
"""Pixels of the square that the network sees; its masks have half as many on a side."""
_PATCH = 8
_WIDTH = 96
_GRID = 24
_SPREAD = 256
_MASKS = 3


def make_model() -> SamModel:
    """The network, with random weights: 0.6 M parameters."""
    vision = {
        "hidden_size": _WIDTH,
        "output_channels": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": _PATCH,
        "window_size": 10,
        "global_attn_indexes": [1, 3],
        "mlp_ratio": 3.0,
        "num_pos_feats": 32,
        "use_rel_pos": False,
        "initializer_range": 0.02,
    }
    prompt = {"hidden_size": 64, "image_size": SIDE, "patch_size": _PATCH, "mask_input_channels": 4}
    decoder = {
        "hidden_size": 64,
        "mlp_dim": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "iou_head_hidden_dim": 64,
        "iou_head_depth": 2,
    }
    model = SamModel(SamConfig(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder))
    # transformers draws the Fourier features of places with a deviation of half the width; SAM has 1 (Kirillov et al.,
    # segment_anything/modeling/prompt_encoder.py), at which near places look alike.
    with torch.no_grad():
        model.shared_image_embedding.positional_embedding.normal_()
    model.shared_image_embedding.positional_embedding.requires_grad_(False)
    return model


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures, and boxes on them with the truth at points around each.

    Attributes:
        pixels: (picture, channel, side, side), normalised.
        boxes: (picture, box, 4) on the square, off by as much as a detector's.
        points: (picture, box, point, 2): x and y on the square.
        truth: (picture, box, point): 1 inside the thing.
    """

    pixels: Tensor
    boxes: Tensor
    points: Tensor
    truth: Tensor


def draw_batch(cache: SceneCache, rng: np.random.Generator, pictures: int, boxes: int) -> Batch:
    """Random scenes, mirrored and turned at random, with random things of each."""
    canvas = Canvas(cache.pixels.shape[1], is_padded=True)
    chosen = np.sort(rng.integers(len(cache), size=pictures))
    squares, sizes, places, points, truth = [], [], [], [], []
    for number in chosen:
        turn = int(rng.integers(8))
        height, width = cache.sizes[number]
        square = _turn(cache.pixels[number], turn, height, width)
        owners = _turn(cache.owners[number], turn, height, width)
        picked = rng.integers(cache.counts[number], size=boxes)
        mine = np.stack([_hull(owners == thing + 1) for thing in picked])
        mine = jitter(mine, rng)
        where = _points(mine, rng)
        inside = _at(owners, where) == (picked + 1)[:, None]
        squares.append(torch.tensor(np.ascontiguousarray(square)).permute(2, 0, 1))
        sizes.append((width, height) if turn >= 4 else (height, width))
        places.append(mine)
        points.append(where)
        truth.append(inside)
    pixels = canvas.normalise(torch.stack(squares), sizes)
    rest = (torch.tensor(np.stack(x), dtype=torch.float32) for x in (places, points, truth))
    return Batch(pixels, *rest)


def _turn(square: Array, turn: int, height: int, width: int) -> Array:
    """One of the eight ways to mirror and turn what a square's upper left holds, there again."""
    part = square[:height, :width]
    part = part[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]
    part = part.swapaxes(0, 1) if turn & 4 else part
    turned = np.zeros_like(square)
    turned[: part.shape[0], : part.shape[1]] = part
    return turned


def _hull(mask: BoolArray) -> Array:
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([xs[0], ys[0], xs[-1] + 1, ys[-1] + 1], np.float32)


def jitter(boxes: Array, rng: np.random.Generator) -> Array:
    """Boxes as a detector might give them: every edge off by about 3 % of the box and half a pixel."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return (boxes + rng.normal(size=boxes.shape) * (0.03 * sides + 0.5)).astype(np.float32)


def _points(boxes: Array, rng: np.random.Generator) -> Array:
    """A jittered grid over each box and a fifth around it, so that small things count as much as large ones, and some
    anywhere.
    """
    grid = np.stack(np.meshgrid(np.arange(_GRID), np.arange(_GRID)), axis=-1).reshape(1, -1, 2)
    share = (grid + rng.random((len(boxes), _GRID**2, 2))) / _GRID * 1.4 - 0.2
    near = boxes[:, None, :2] + share * (boxes[:, 2:] - boxes[:, :2])[:, None]
    anywhere = rng.random((len(boxes), _SPREAD, 2)) * SIDE
    return np.concatenate([near, anywhere], axis=1).clip(0, SIDE - 0.01).astype(np.float32)


def _at(owners: Array, points: Array) -> Array:
    x, y = points.astype(np.int64).transpose(2, 0, 1)
    return owners[y, x]


def loss_of(model: SamModel, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Of the best of a box's masks cross-entropy and dice; of all masks the error of the predicted IoU.

    Source: Kirillov et al. 2023, "Segment Anything", appendix A. Their focal loss gives way to cross-entropy, as the
    points are as often inside as outside; a tenth of the mean over all masks keeps each of them of use.
    """
    found = model(pixel_values=batch.pixels, input_boxes=batch.boxes, multimask_output=True)
    logits = sample(found.pred_masks, batch.points)
    truth = batch.truth[:, :, None].expand_as(logits)
    wrong = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    soft, near = logits.sigmoid()[..., : _GRID**2], truth[..., : _GRID**2]
    dice = 1 - (2 * (soft * near).sum(-1) + 1) / (soft.sum(-1) + near.sum(-1) + 1)
    each = wrong[..., : _GRID**2].mean(-1) + wrong[..., _GRID**2 :].mean(-1) + dice
    shape = (0.9 * each.min(dim=-1).values + 0.1 * each.mean(dim=-1)).mean()
    iou = near_iou(logits, truth)
    guess = F.mse_loss(found.iou_scores, iou)
    chosen = iou.gather(-1, found.iou_scores.argmax(-1, keepdim=True)).mean()
    figures = {"shape": shape.item(), "guess": guess.item(), "best": iou.max(-1).values.mean().item()}
    return shape + guess, figures | {"chosen": chosen.item()}


def sample(masks: Tensor, points: Tensor) -> Tensor:
    """Logits of masks, (picture, box, mask, y, x), at points, (picture, box, point, 2): (picture, box, mask, point)."""
    grid = points.flatten(0, 1)[:, None] * (2 / SIDE) - 1
    return F.grid_sample(masks.flatten(0, 1), grid, padding_mode="border", align_corners=False)[:, :, 0].unflatten(
        0, points.shape[:2]
    )


@torch.no_grad()
def near_iou(logits: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union, told from the points of the grid alone, which are spread evenly."""
    found, true = logits[..., : _GRID**2] > 0, truth[..., : _GRID**2] > 0.5
    return (found & true).sum(-1) / (found | true).sum(-1).clamp(min=1)


def mean_iou(segmenter: BatchSegmenter, recipe: Recipe, seeds: Sequence[int]) -> float:
    """Mean IoU of masks and truth at the pictures' own size, with boxes off as in training."""
    ious = []
    for start in range(0, len(seeds), 8):
        part = seeds[start : start + 8]
        drawn = [recipe.hold(seed)[1] for seed in part]
        boxes = [_jittered(each.boxes, seed) for each, seed in zip(drawn, part, strict=True)]
        for each, mine, cuts in zip(drawn, boxes, segmenter([write_png(x.pixels) for x in drawn], boxes), strict=True):
            ious += [
                _iou(only_inside(cut.mask, box), mask) for cut, box, mask in zip(cuts, mine, each.masks, strict=True)
            ]
    return float(np.mean(ious))


def _jittered(boxes: Sequence[Box], seed: int) -> list[Box]:
    moved = jitter(np.array([box.xyxy for box in boxes], np.float32), np.random.default_rng(seed))
    return [Box(x0=float(row[0]), y0=float(row[1]), x1=float(row[2]), y1=float(row[3])) for row in moved]


def _iou(a: BoolArray, b: BoolArray) -> float:
    return float((a & b).sum() / max(1, (a | b).sum()))


def segmenter_of(model: SamModel) -> BatchSegmenter:
    """The network as the pipeline runs it."""
    return BatchSegmenter(
        network=Sam(model.eval()),
        device="cpu",
        precision=torch.float32,
        image_calls=CallSize(8, "images_per_call"),
        box_calls=CallSize(32, "boxes_per_call"),
    )


def publish(run: Run, folder: Path) -> None:
    """Write the averaged weights as transformers reads them, in half precision."""
    model = make_model()
    model.load_state_dict(run.averaged)
    model.half().save_pretrained(folder)


def train(run: Run, cache: SceneCache, out: Path, every: int) -> None:
    """Take the steps that are left, and tell and save how it goes."""
    model, began = run.model, time.monotonic()
    assert isinstance(model, SamModel)
    model.train()
    for rng in run.generators():
        loss, figures = loss_of(model, draw_batch(cache, rng, 16, 3))
        run.learn(loss)
        if run.step % 50 == 0:
            told = {"step": run.step, "s": round(time.monotonic() - began), "loss": round(loss.item(), 4)}
            print(json.dumps(told | {name: round(x, 4) for name, x in figures.items()}), flush=True)
        if run.step % every == 0 or run.step == run.plan.steps:
            run.save(out / "run.pt")
            report(run)


def report(run: Run) -> None:
    """Tell how good the averaged weights are on held-out scenes."""
    model = make_model()
    model.load_state_dict(run.averaged)
    recipe = Recipe(Canvas(SIDE, is_padded=True), SceneSettings())
    print(json.dumps({"step": run.step, "held_out": mean_iou(segmenter_of(model), recipe, range(48))}), flush=True)


def main() -> None:
    """Train, and publish what was learnt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--shards", type=int, default=12, help="of 1000 scenes")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--resume", action="store_true")
    asked = parser.parse_args()
    plan = Plan(steps=asked.steps, lr=1e-3, muon=("vision_encoder.layers", "transformer.layers"))
    torch.manual_seed(plan.seed)
    asked.out.mkdir(parents=True, exist_ok=True)
    settings = SceneSettings(photographs=0.2 if asked.photographs else 0.0)
    recipe = Recipe(Canvas(SIDE, is_padded=True), settings, load_photographs(asked.photographs))
    build(asked.cache, range(asked.shards), recipe)
    cache = open_cache(asked.cache)
    run = Run(make_model(), plan)
    if asked.resume:
        run.restore(asked.out / "run.pt")
    train(run, cache, asked.out, every=250)
    publish(run, asked.out)


if __name__ == "__main__":
    main()
