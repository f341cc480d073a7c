"""Batches of scenes and prompts for the detector, as tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.data.shapes_training.detector_losses import Truth
from stages.data.shapes_training.detector_prompts import Kind, Prompt, sample_phrases, write_prompt
from stages.data.shapes_training.detector_scenes import MAX_THINGS

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
FRAME = 64
"""Padded sides are a multiple of this where the network is used; in training only sometimes."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Pictures and prompts of a batch, and what is true of them.

    Attributes:
        pixels: ``picture 3 y x``, normalised, 0 where padded.
        is_picture: ``picture y x``.
        ids: ``picture token``.
        truth: What the network should say.
    """

    pixels: Tensor
    is_picture: Tensor
    ids: Tensor
    truth: Truth

    def inputs(self) -> dict[str, Tensor]:
        """Arguments for the network."""
        return {
            "pixel_values": self.pixels,
            "pixel_mask": self.is_picture.long(),
            "input_ids": self.ids,
            "attention_mask": self.truth.is_text.long(),
        }


def collate(
    pixels: npt.NDArray[np.uint8],
    sizes: npt.NDArray[np.int16],
    boxes: npt.NDArray[np.float32],
    prompts: Sequence[Prompt],
) -> Batch:
    """Make a batch.

    Args:
        pixels: ``picture y x 3``, padded.
        sizes: ``picture 2``: height and width inside the padding.
        boxes: ``picture thing cxcywh``, shares; as many filled as a prompt's targets have rows.
        prompts: One for each picture.
    """
    _, height, width, _ = pixels.shape
    rows, columns = torch.from_numpy(sizes.astype(np.int64)).unbind(1)
    is_picture = (torch.arange(height)[:, None] < rows[:, None, None]) & (torch.arange(width) < columns[:, None, None])
    normal = (torch.from_numpy(pixels) / 255 - MEAN) / STD * is_picture[..., None]
    length, count = max(len(prompt.ids) for prompt in prompts), len(prompts)
    ids, tokens = torch.zeros(count, length, dtype=torch.long), torch.zeros(count, MAX_THINGS, length)
    is_thing = torch.zeros(count, MAX_THINGS, dtype=torch.bool)
    for i, prompt in enumerate(prompts):
        ids[i, : len(prompt.ids)] = torch.tensor(prompt.ids)
        things, own = prompt.targets.shape
        tokens[i, :things, :own] = torch.from_numpy(prompt.targets)
        is_thing[i, :things] = True
    truth = Truth(torch.from_numpy(boxes), is_thing, tokens, ids != 0)
    return Batch(normal.permute(0, 3, 1, 2).contiguous(), is_picture, ids, truth)


def training_batches(folder: Path, size: int, rng: np.random.Generator) -> Iterator[Batch]:
    """Batches for ever, from the shards that are there at the time."""
    while True:
        labels = sorted(folder.glob("*.npz"))
        for path in rng.permutation(np.array(labels, dtype=object))[:64]:
            yield _sample(path, size, rng)


def _sample(path: Path, size: int, rng: np.random.Generator) -> Batch:
    """Scenes of one shard and canvas, each mirrored by chance and newly prompted."""
    with np.load(path) as file:
        sizes, boxes, kinds = file["sizes"], file["boxes"], file["kinds"]
    chosen = np.sort(rng.choice(len(sizes), min(size, len(sizes)), replace=False))
    pixels = np.load(path.with_suffix(".npy"), mmap_mode="r")[chosen]
    sizes, boxes, kinds = sizes[chosen], boxes[chosen], kinds[chosen]
    for i in np.flatnonzero(rng.random(len(chosen)) < 0.5):
        width = int(sizes[i, 1])
        pixels[i, :, :width] = pixels[i, :, :width][:, ::-1]
        boxes[i, kinds[i, :, 0] >= 0, 0] = 1 - boxes[i, kinds[i, :, 0] >= 0, 0]
    if rng.random() < 0.3:
        pixels = _framed(pixels)
    return collate(pixels, sizes, boxes, [_prompt(things, rng) for things in kinds])


def _framed(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    _, height, width, _ = pixels.shape
    return np.pad(pixels, ((0, 0), (0, -height % FRAME), (0, -width % FRAME), (0, 0)))


def _prompt(things: npt.NDArray[np.int8], rng: np.random.Generator) -> Prompt:
    kinds: list[Kind] = [(int(c), int(t), int(n)) for c, t, n in things if c >= 0]
    return write_prompt(sample_phrases(kinds, rng), kinds)
