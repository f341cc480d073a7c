"""MTCNN: three small networks that find faces and five landmarks of each, every one in what the one before left.

Source: Zhang et al. 2016, "Joint Face Detection and Alignment using Multi-task Cascaded Convolutional Networks"; the
arithmetic and the thresholds are those of facenet-pytorch 2.6, whose weights these are.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from manifests.record import Box, Face, Point
from stages.models.area import area_table, shrink
from stages.models.memory import CallSize
from stages.models.mtcnn_networks import ONet, PNet, RNet
from stages.nms import suppress
from stages.pixels import Pixels

Floats: TypeAlias = npt.NDArray[np.float32]

_CELL, _STRIDE = 12, 2
"""Pixels on a side of what one output of the proposer looks at, and from one output to the next."""

_FACTOR = 0.709
"""From the sides of one level of the pyramid to those of the next; about half the area."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Boxes that may hold a face.

    Attributes:
        pictures: (box,), the number of the picture in the call.
        boxes: (box, ``x0 y0 x1 y1``), in pixels counted from 1, both ends inside: Matlab's, as in the original code.
        outputs: (box, 5 or 15): what the last network said; see :mod:`stages.models.mtcnn_networks`.
    """

    pictures: npt.NDArray[np.intp]
    boxes: Floats
    outputs: Floats

    def __getitem__(self, chosen: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> "_Found":
        return _Found(self.pictures[chosen], self.boxes[chosen], self.outputs[chosen])

    def apart(self, threshold: float, over: Literal["union", "smaller"] = "union", last_pixel: int = 0) -> "_Found":
        """Those that overlap no better one of their picture by more than ``threshold``."""
        boxes = self.boxes + np.array((0, 0, last_pixel, last_pixel), np.float32)
        kept = [np.empty(0, np.intp)]
        for picture in np.unique(self.pictures):
            (mine,) = np.nonzero(self.pictures == picture)
            kept.append(mine[suppress(boxes[mine], self.outputs[mine, 0], threshold, over)])
        return self[np.concatenate(kept)]

    def moved(self, last_pixel: int = 1) -> "_Found":
        """With each edge moved as the network said."""
        sides = self.boxes[:, 2:] - self.boxes[:, :2] + np.float32(last_pixel)
        return replace(self, boxes=self.boxes + self.outputs[:, 1:5] * np.tile(sides, 2))

    def squared(self) -> "_Found":
        """With the shorter sides as long as the longer, around the same centre."""
        low, sides = self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]
        longer = sides.max(axis=1, keepdims=True)
        low = low + sides * np.float32(0.5) - longer * np.float32(0.5)
        return replace(self, boxes=np.concatenate([low, low + longer], axis=1))

    def placed(self) -> "_Found":
        """With the landmarks as ``x y x y …`` in pixels from 0. The boxes must be those that the decider looked at."""
        low, sides = self.boxes[:, None, :2], self.boxes[:, None, 2:] - self.boxes[:, None, :2] + np.float32(1)
        points = self.outputs[:, 5:].reshape(-1, 2, 5).swapaxes(1, 2) * sides + low - np.float32(1)
        return replace(self, outputs=np.concatenate([self.outputs[:, :5], points.reshape(len(points), 10)], axis=1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Mtcnn:
    """The cascade.

    Every call of a network has its full size, filled up with black, so that what is found does not hang on the company.
    What remains is the last bit of a sum that hangs on the place in the call; with one picture a call nothing remains.

    Attributes:
        proposer: Looks everywhere at all sizes.
        refiner: Looks at what was proposed.
        decider: Looks at what the refiner left, and finds the landmarks.
        device: Where they are.
        images: Pictures of equal size that the proposer sees at once.
        patches: Boxes of those pictures that each of the others sees at once.
        min_side: Pixels on a side of the smallest faces looked for.
        thresholds: Scores that what each network found must reach.
    """

    proposer: PNet
    refiner: RNet
    decider: ONet
    device: str
    images: CallSize
    patches: CallSize
    min_side: float = 20
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)

    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels]) -> list[list[Face]]:
        """The faces in each picture, the surest first; their boxes may stick out."""
        faces: list[list[Face]] = [[] for _ in images]
        sizes = defaultdict(list)
        for number, image in enumerate(images):
            sizes[image.shape].append(number)
        for numbers in sizes.values():
            found = self.images.run([images[number] for number in numbers], self._detect)
            for number, mine in zip(numbers, found, strict=True):
                faces[number] = mine
        return faces

    def _detect(self, images: Sequence[Pixels], call_size: int) -> list[list[Face]]:
        pixels = np.zeros((call_size, *images[0].shape), np.uint8)
        pixels[: len(images)] = images
        table = area_table(torch.from_numpy(pixels).to(self.device))
        found = self._propose(table)
        found = found[found.pictures < len(images)]
        found = self._look(self.refiner, table, found, self.thresholds[1]).apart(0.7).moved().squared()
        found = self._look(self.decider, table, found, self.thresholds[2]).placed().moved()
        found = found.apart(0.7, "smaller", last_pixel=1)
        return [_faces(found[found.pictures == number]) for number in range(len(images))]

    def _propose(self, table: Tensor) -> _Found:
        height, width = table.shape[1] - 1, table.shape[2] - 1
        levels = [self._propose_at(table, scale) for scale in _scales(min(height, width), self.min_side)]
        if not levels:
            return _Found(np.empty(0, np.intp), np.empty((0, 4), np.float32), np.empty((0, 5), np.float32))
        parts = ((level.pictures, level.boxes, level.outputs) for level in levels)
        found = _Found(*map(np.concatenate, zip(*parts, strict=True)))
        return found.apart(0.7).moved(last_pixel=0).squared()

    def _propose_at(self, table: Tensor, scale: float) -> _Found:
        """What the proposer finds at one size: places whose score reaches the threshold, and not overlapping much."""
        pictures, height, width = table.shape[0], table.shape[1] - 1, table.shape[2] - 1
        whole = torch.tensor([(0, 0, width, height)] * pictures, device=self.device)
        numbers = torch.arange(pictures, device=self.device)
        pixels = shrink(table, numbers, whole, int(height * scale + 1), int(width * scale + 1))
        outputs = self.proposer(_normal(pixels)).cpu().numpy()
        picture, y, x = np.nonzero(outputs[:, 0] >= self.thresholds[0])
        low = np.stack([x, y], axis=1) * _STRIDE
        corners = np.concatenate([low + 1, low + _CELL], axis=1).astype(np.float32)
        return _Found(picture, np.floor(corners / np.float32(scale)), outputs[picture, :, y, x]).apart(0.5)

    def _look(self, network: RNet | ONet, table: Tensor, found: _Found, threshold: float) -> _Found:
        """What a network scores above the threshold, with what it says of it."""
        windows = _windows(found.boxes, table.shape[1] - 1, table.shape[2] - 1)
        (inside,) = np.nonzero((windows[:, :2] < windows[:, 2:]).all(axis=1))
        found, windows = found[inside], windows[inside]

        def call(numbers: Sequence[int], call_size: int) -> list[Floats]:
            patches = torch.zeros(call_size, 3, network.side, network.side, device=self.device)
            pictures, parts = (torch.from_numpy(part[numbers]).to(self.device) for part in (found.pictures, windows))
            patches[: len(numbers)] = _normal(shrink(table, pictures, parts, network.side, network.side))
            return list(network(patches)[: len(numbers)].cpu().numpy())

        rows = self.patches.run(range(len(windows)), call)
        outputs = np.stack([np.empty(network.outputs, np.float32), *rows])[1:]
        return replace(found, outputs=outputs)[outputs[:, 0] > threshold]


def _scales(side: int, min_side: float) -> Iterator[float]:
    """Of the pyramid's levels: from where the smallest faces fill the proposer's view to where the picture does."""
    scale = _CELL / min_side
    while side * scale >= _CELL:
        yield scale
        scale *= _FACTOR


def _normal(pixels: Tensor) -> Tensor:
    return (pixels - 127.5) / 128


def _windows(boxes: Floats, height: int, width: int) -> npt.NDArray[np.int64]:
    """The pixels of the picture in each box, half-open, counted from 0; of a box outside, none."""
    whole = np.trunc(boxes).clip(-(2**31), 2**31).astype(np.int64)
    low, high = np.maximum(whole[:, :2], 1) - 1, np.minimum(whole[:, 2:], (width, height))
    return np.concatenate([low, high], axis=1)


def _faces(found: _Found) -> list[Face]:
    faces = []
    for (x0, y0, x1, y1), output in zip(found.boxes.tolist(), found.outputs.tolist(), strict=True):
        if x0 - 1 < x1 and y0 - 1 < y1:
            points = tuple(Point(x=x, y=y) for x, y in zip(output[5::2], output[6::2], strict=True))
            faces.append(Face(box=Box(x0=x0 - 1, y0=y0 - 1, x1=x1, y1=y1), score=output[0], landmarks=points))
    return faces
