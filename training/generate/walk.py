"""Walking between the pictures of four prompts, for families that draw a picture from one vector."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from training.families.base import Conditions, Family, SampleConfig
from training.generate.drawing import Drawing
from training.generate.memory import explained_shortage
from training.modules.interpolate import Interpolation, interpolate
from training.noise import Noise
from training.stream.geometry import Pixels


@runtime_checkable
class DrawsFromVectors(Protocol):
    """A family that makes a vector of a prompt, then a picture of the vector."""

    def vectors(self, conditions: Conditions, noise: Noise) -> Float[Tensor, "picture dim"]:
        """The vectors of prompts."""
        ...

    def decode(
        self, vectors: Float[Tensor, "picture dim"], config: SampleConfig, first: int = 0
    ) -> UInt8[Tensor, "picture height width 3"]:
        """The pictures of vectors."""
        ...


def walk(
    family: Family, corners: Sequence[Drawing], size: int, kind: Interpolation, device: torch.device | str
) -> Pixels:
    """A sheet of ``size`` times ``size`` pictures, the prompts' own in its corners, in reading order.

    All are drawn from the same noise, so that nothing but the vector changes from one to the next.

    Args:
        family: That draws from vectors.
        corners: Four prompts; the first says how all are drawn.
        size: Rows and columns, at least 2.
        kind: How it goes between vectors.
        device: That the family is on.

    Raises:
        ValueError: If the family doesn't draw from vectors, or there are other than four prompts.
    """
    if not isinstance(family, DrawsFromVectors):
        raise ValueError("this family draws from no single vector: between its pictures there is no way to walk")
    if len(corners) != 4:
        raise ValueError(f"a walk is between the pictures of four prompts, got {len(corners)}")
    config = corners[0].config
    vectors = torch.cat([_vector(family, corner, device) for corner in corners])
    rows = interpolate(vectors, size, kind)
    with torch.no_grad(), explained_shortage(1, device):
        pictures = [[family.decode(vector[None], config).cpu().numpy()[0] for vector in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in pictures])


def _vector(family: DrawsFromVectors, corner: Drawing, device: torch.device | str) -> Float[Tensor, "1 dim"]:
    with torch.no_grad():
        return family.vectors(corner.conditions(1, device), Noise(corner.config.seed, 0, range(1)))
