"""Boxes to masks with a network: each picture is embedded once, and every box of it is decoded from that."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol, TypeAlias

import torch
from torch import Tensor

from manifests.record import Box
from stages.masks import BoolArray
from stages.models.canvas import Canvas
from stages.pixels import Pixels

Embedding: TypeAlias = tuple[Tensor, ...]
"""Maps of pictures, each (picture, channel, y, x)."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What was found in a box.

    Attributes:
        mask: At the picture's size.
        iou: The model's guess of the mask's intersection over union with the truth; about [0, 1], -inf if none.
    """

    mask: BoolArray
    iou: float


class Segmenter(Protocol):
    """Cuts out what boxes hold."""

    def __call__(self, images: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> list[list[Cut]]:
        """For each picture, a cut for each of its boxes, in order. Pictures and boxes do not influence each other."""
        ...


class Network(Protocol):
    """The two halves of a promptable segmentation network."""

    @property
    def canvas(self) -> Canvas:
        """What it sees."""
        ...

    def embed(self, pixels: Tensor) -> Embedding:
        """Embed normalised pictures, (picture, channel, side, side)."""
        ...

    def decode(self, embedding: Embedding, pictures: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Several masks for each box.

        Args:
            embedding: Of some pictures.
            pictures: Which of them each box is on.
            boxes: (box, ``x0 y0 x1 y1``) on the canvas.

        Returns:
            Logits, (box, mask, y, x), and predicted IoU, (box, mask).
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSegmenter:
    """A :class:`Segmenter` around a network, with pictures and boxes in batches.

    Every call has its full size, filled up with what is thrown away: sums are taken in another order at another size,
    which may show in a pixel on a mask's edge. What remains is the last bit of a sum that hangs on the place in the
    call (predicted IoU differs by up to 2e-7); with one picture and one box a call nothing remains.

    Attributes:
        network: On ``device``, in evaluation mode.
        device: Where it is.
        precision: Type that pictures are embedded in. Boxes and masks always take float32: bfloat16 would move a
            corner by up to two pixels of 1024.
        images_per_call: Pictures embedded at once.
        boxes_per_call: Boxes decoded at once, of whichever pictures.
    """

    network: Network
    device: str
    precision: torch.dtype
    images_per_call: int
    boxes_per_call: int

    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> list[list[Cut]]:
        """For each picture, a cut for each of its boxes, in order; pictures without a box are not embedded."""
        cuts: list[list[Cut]] = [[] for _ in images]
        wanted = [number for number, mine in enumerate(boxes) if mine]
        for start in range(0, len(wanted), self.images_per_call):
            numbers = wanted[start : start + self.images_per_call]
            chunk = [images[number] for number in numbers]
            for place, cut in self._cuts(chunk, [boxes[number] for number in numbers]):
                cuts[numbers[place]].append(cut)
        return cuts

    def _cuts(self, images: Sequence[Pixels], boxes: Sequence[Sequence[Box]]) -> Iterator[tuple[int, Cut]]:
        """The place of the picture and the cut, for every box in order."""
        sizes = [image.shape[:2] for image in images]
        canvas, embedding = self.network.canvas, self._embed(images)
        places = [place for place, mine in enumerate(boxes) for _ in mine]
        placed = torch.cat([canvas.place(mine, *size) for mine, size in zip(boxes, sizes, strict=True)])
        for start in range(0, len(places), self.boxes_per_call):
            part = slice(start, start + self.boxes_per_call)
            numbers = list(range(len(places)))[part]
            full = numbers + numbers[-1:] * (self.boxes_per_call - len(numbers))
            pictures = torch.tensor([places[number] for number in full], device=self.device)
            logits, ious = best(*self.network.decode(embedding, pictures, placed[full].to(self.device)))
            for place, group in groupby(range(len(numbers)), places[part].__getitem__):
                rows = list(group)
                masks = canvas.lift(logits[rows], *sizes[place]).cpu().numpy()
                yield from ((place, Cut(mask, iou)) for mask, iou in zip(masks, ious[rows].tolist(), strict=True))

    def _embed(self, images: Sequence[Pixels]) -> Embedding:
        canvas = self.network.canvas
        squares = canvas.draw(images).to(self.device)
        pixels = canvas.normalise(squares, [image.shape[:2] for image in images])
        pixels = torch.cat([pixels, pixels.new_zeros(self.images_per_call - len(images), *pixels.shape[1:])])
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            embedding = self.network.embed(pixels)
        return tuple(level.float() for level in embedding)


def best(logits: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
    """Of each box's masks the one with the highest predicted IoU, (box, y, x), and that IoU, (box,).

    A prediction that is no number counts as -inf.
    """
    highest, which = ious.float().nan_to_num(nan=-torch.inf).max(dim=1)
    return logits[torch.arange(len(which), device=which.device), which], highest
