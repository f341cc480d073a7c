"""Boxes to masks with a network: each picture is embedded once, and every box of it is decoded from that."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import NamedTuple, Protocol, TypeAlias

import torch
from torch import Tensor

from manifests.record import Box, Picture
from stages.masks import BoolArray
from stages.models.ahead import ahead, moved, ready
from stages.models.canvas import Canvas
from stages.models.memory import CallSize
from stages.pixels import read_picture

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

    def __call__(self, images: Sequence[Picture], boxes: Sequence[Sequence[Box]]) -> Iterator[list[Cut]]:
        """For each picture, a cut for each of its boxes, in order, as soon as they are there.

        Pictures and boxes do not influence each other.
        """
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


class _Drawn(NamedTuple):
    """A picture on its square, by its number."""

    number: int
    size: tuple[int, int]
    square: Tensor


class _Job(NamedTuple):
    """A box on the square of the picture with that place in a call."""

    place: int
    box: Tensor


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
        image_calls: Pictures embedded at once.
        box_calls: Boxes decoded at once, of whichever pictures.
    """

    network: Network
    device: str
    precision: torch.dtype
    image_calls: CallSize
    box_calls: CallSize

    def __call__(self, images: Sequence[Picture], boxes: Sequence[Sequence[Box]]) -> Iterator[list[Cut]]:
        """For each picture, a cut for each of its boxes, in order; pictures without a box are not embedded."""
        canvas, device = self.network.canvas, self.device

        def draw(number: int) -> _Drawn:
            pixels = read_picture(images[number])
            height, width, _ = pixels.shape
            return _Drawn(number, (height, width), ready(canvas.draw([pixels]), device))

        wanted = [number for number, mine in enumerate(boxes) if mine]
        drawn = ahead(draw, wanted, 2 * self.image_calls.size, device)
        found = self.image_calls.stream(drawn, lambda part, size: self._cuts(part, boxes, size))
        return (next(found) if mine else [] for mine in boxes)

    @torch.inference_mode()
    def _cuts(self, drawn: Sequence[_Drawn], boxes: Sequence[Sequence[Box]], size: int) -> list[list[Cut]]:
        """The cuts of each picture of a call."""
        sizes = [one.size for one in drawn]
        embedding = self._embed(drawn, size)
        jobs = [
            _Job(place, box)
            for place, one in enumerate(drawn)
            for box in self.network.canvas.place(boxes[one.number], *one.size)
        ]
        found = iter(self.box_calls.run(jobs, lambda part, full: self._decode(embedding, sizes, part, full)))
        return [list(islice(found, len(boxes[one.number]))) for one in drawn]

    def _embed(self, drawn: Sequence[_Drawn], size: int) -> Embedding:
        squares = torch.cat([moved(one.square, self.device) for one in drawn])
        pixels = self.network.canvas.normalise(squares, [one.size for one in drawn])
        pixels = torch.cat([pixels, pixels.new_zeros(size - len(drawn), *pixels.shape[1:])])
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            embedding = self.network.embed(pixels)
        return tuple(level.float() for level in embedding)

    def _decode(
        self, embedding: Embedding, sizes: Sequence[tuple[int, int]], jobs: Sequence[_Job], size: int
    ) -> list[Cut]:
        full = [*jobs, *[jobs[-1]] * (size - len(jobs))]
        pictures = torch.tensor([job.place for job in full], device=self.device)
        placed = torch.stack([job.box for job in full]).to(self.device)
        logits, ious = best(*self.network.decode(embedding, pictures, placed))
        cuts: list[Cut] = []
        for place, group in groupby(range(len(jobs)), lambda row: jobs[row].place):
            rows = list(group)
            masks = self.network.canvas.lift(logits[rows], *sizes[place]).cpu().numpy()
            cuts += (Cut(mask, iou) for mask, iou in zip(masks, ious[rows].tolist(), strict=True))
        return cuts


def best(logits: Tensor, ious: Tensor) -> tuple[Tensor, Tensor]:
    """Of each box's masks the one with the highest predicted IoU, (box, y, x), and that IoU, (box,).

    A prediction that is no number counts as -inf.
    """
    highest, which = ious.float().nan_to_num(nan=-torch.inf).max(dim=1)
    return logits[torch.arange(len(which), device=which.device), which], highest
