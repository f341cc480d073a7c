"""Batches made by hand: coloured squares on grey, each a reference of the prompt that asks for it."""

from collections.abc import Sequence

import numpy as np

from manifests.prompt import Insertion
from manifests.record import Span
from training.stream.collate import Place, collate
from training.stream.geometry import frame
from training.stream.keyed import Draws
from training.stream.prepare import Prepared
from training.stream.prompts.base import Prompt, Reference, weave
from training.stream.tensors import BatchTensors, to_tensors

CAPTION = "a square beside another one"
PHRASES = ("a square", "another one")
COLOURS = ((220, 30, 30), (30, 60, 220), (30, 200, 60), (230, 220, 40))


def prompt(references: int, caption: str = CAPTION, insertion: Insertion = "replace") -> Prompt:
    """The caption, its first phrases with images."""
    spans = [Span(start=caption.index(p), end=caption.index(p) + len(p)) for p in PHRASES[:references]]
    found = tuple(
        Reference(name=f"subject{n}", role="subject", member=f"subject{n}.png", subject=n, span=span)
        for n, span in enumerate(spans)
    )
    return Prompt(interleaved=weave(caption, found, insertion), caption=caption, references=found)


def sample(
    number: int,
    references: int,
    size: tuple[int, int] = (32, 32),
    side: int = 16,
    insertion: Insertion = "replace",
) -> Prepared:
    """A target of ``size`` (width, height) whose quarter n is the n-th reference."""
    width, height = size
    image = np.full((height, width, 3), 128, np.uint8)
    masks, crops = [], []
    for n in range(references):
        colour = COLOURS[(number + n) % len(COLOURS)]
        mask = np.zeros((height, width), bool)
        mask[height // 4 : 3 * height // 4, n * width // 2 : n * width // 2 + width // 2] = True
        image[mask] = colour
        masks.append(mask)
        crops.append(np.full((side, side, 3), colour, np.uint8))
    return Prepared(
        key=f"sample{number}",
        framing=frame(size, size, Draws(0, 0, "sample"), "centre"),
        image=image,
        prompt=prompt(references, insertion=insertion),
        references=tuple(crops),
        masks=tuple(masks),
        controls={},
        features={},
    )


def batch(
    references: Sequence[int],
    size: tuple[int, int] = (32, 32),
    side: int = 16,
    first: int = 0,
    insertion: Insertion = "replace",
) -> BatchTensors:
    """One sample for each number of references, numbered from ``first``."""
    samples = [sample(number, count, size, side, insertion) for number, count in enumerate(references, first)]
    return to_tensors(collate(samples, Place(epoch=0, step=0, ratio=1.0, size=size)))
