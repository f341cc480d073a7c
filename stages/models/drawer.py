"""Pictures to gray maps of their size with a network, in batches of one size."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stages.models.memory import CallSize
from stages.pixels import Gray, Pixels


class Drawer(Protocol):
    """Draws a map of a picture."""

    def __call__(self, images: Sequence[Pixels]) -> list[Gray | None]:
        """For each picture a map of its size, or nothing where there is none to draw."""
        ...


class Network(Protocol):
    """A network that gives a number for every place of a picture."""

    def prepare(self, image: Pixels) -> Tensor:
        """A picture as the network takes it: float32, (channel, y, x), of a size that the picture's size decides."""
        ...

    def infer(self, pixels: Tensor) -> Tensor:
        """Prepared pictures of one size, (picture, channel, y, x), to maps, (picture, y, x), of any one size."""
        ...

    def finish(self, found: Tensor, height: int, width: int) -> Gray | None:
        """A map, float32, (y, x), as a gray picture of a given size; ``None`` if it says nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDrawer:
    """A :class:`Drawer` around a network.

    Pictures whose prepared size is equal share calls. Every call has its full size, filled up with what is thrown
    away, as sums are taken in another order at another size.

    Attributes:
        network: On ``device``, in evaluation mode.
        device: Where it is.
        precision: Type that it computes in.
        calls: Pictures at once.
    """

    network: Network
    device: str
    precision: torch.dtype
    calls: CallSize

    @torch.inference_mode()
    def __call__(self, images: Sequence[Pixels]) -> list[Gray | None]:
        """For each picture a map of its size, in order."""
        prepared = [self.network.prepare(image) for image in images]
        by_size: dict[torch.Size, list[int]] = defaultdict(list)
        for number, pixels in enumerate(prepared):
            by_size[pixels.shape].append(number)
        drawn: list[Gray | None] = [None] * len(images)
        for numbers in by_size.values():
            found = self.calls.run([prepared[number] for number in numbers], self._infer)
            for number, one in zip(numbers, found, strict=True):
                height, width = images[number].shape[:2]
                drawn[number] = self.network.finish(one, height, width)
        return drawn

    def _infer(self, pixels: Sequence[Tensor], size: int) -> list[Tensor]:
        call = pixels[0].new_zeros(size, *pixels[0].shape)
        call[: len(pixels)] = torch.stack(list(pixels))
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            found = self.network.infer(call.to(self.device))
        return list(found[: len(pixels)].float())


def to_gray(shares: Tensor) -> Gray:
    """Numbers in [0, 1], (y, x), as a gray picture."""
    gray: Gray = (shares * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return gray
