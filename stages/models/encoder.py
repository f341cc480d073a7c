"""Frozen networks that turn texts or pictures into vectors, states and latents, in calls of one size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from stages.models.memory import CallSize
from stages.pixels import Pixels

Outputs: TypeAlias = Mapping[str, npt.NDArray[np.float32]]
"""What a network says of one text or picture, by the name of the output."""

Seen: TypeAlias = tuple[Pixels, bool]
"""A picture, and whether it is a crop of something, to be seen whole."""


class Network(Protocol):
    """A network, on some device, in evaluation mode."""

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """All its outputs, by name, for rows that do not influence each other."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEncoder:
    """Asks a network in calls of equal size, so that an output does not hang on what else is asked.

    Rows of other shapes go in other calls; a call with too few rows is filled up with copies of its last. With one
    row a call, outputs are equal to the last bit however they are batched. With more, what remains on CPUs is the
    last bits of a sum that hang on the place in the call (about 1e-7 of it).

    Attributes:
        network: On ``device``, float32.
        device: Where it is.
        precision: Type that it calculates in.
        outputs: Those that are wanted.
        calls: Rows a call.
    """

    network: Network
    device: str
    precision: torch.dtype
    outputs: Sequence[str]
    calls: CallSize

    @torch.inference_mode()
    def __call__(self, rows: Sequence[Tensor]) -> list[Outputs]:
        """The wanted outputs for each row, in order."""
        by_shape: dict[torch.Size, list[int]] = {}
        for number, row in enumerate(rows):
            by_shape.setdefault(row.shape, []).append(number)
        found: dict[int, Outputs] = {}
        for numbers in by_shape.values():
            outputs = self.calls.run([rows[number] for number in numbers], self._call)
            found |= zip(numbers, outputs, strict=True)
        return [found[number] for number in range(len(rows))]

    def _call(self, rows: Sequence[Tensor], size: int) -> list[Outputs]:
        given = torch.stack([*rows, *[rows[-1]] * (size - len(rows))]).to(self.device)
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            said = self.network(given)
        arrays = {name: said[name][: len(rows)].float().cpu().numpy() for name in self.outputs}
        return [{name: array[place] for name, array in arrays.items()} for place in range(len(rows))]


class Draw(Protocol):
    """What a network sees of a picture."""

    def __call__(self, picture: Pixels, is_crop: bool) -> Tensor:
        """(channel, y, x), uint8."""
        ...


@dataclass(frozen=True, slots=True)
class PictureEncoder:
    """Pictures to what a network says of them. ``encode`` takes what ``draw`` makes of each."""

    draw: Draw
    encode: BatchEncoder

    def __call__(self, pictures: Sequence[Seen]) -> list[Outputs]:
        """Outputs for each picture, in order."""
        return self.encode([self.draw(*picture) for picture in pictures])
