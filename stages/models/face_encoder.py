"""Faces in pictures to what a network for aligned faces says of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from manifests.record import Point
from stages.alignment import align_face, as_points
from stages.models.encoder import BatchEncoder, Outputs
from stages.pixels import Pixels


@dataclass(frozen=True, slots=True)
class Faces:
    """A network for aligned faces in blue, green and red, as AdaFace's."""

    model: nn.Module

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """``vector``, of length 1, (face, channel), of aligned faces in RGB, uint8."""
        return {"vector": self.model(given.flip(1).float().div(127.5).sub(1))}


@dataclass(frozen=True, slots=True)
class FaceEncoder:
    """Faces to what a network says of them."""

    encode: BatchEncoder

    def __call__(self, faces: Sequence[tuple[Pixels, Sequence[Point]]]) -> list[Outputs]:
        """Outputs for each picture with the five landmarks of the face that is meant, in pixels of it."""
        aligned = [align_face(picture, as_points(landmarks)) for picture, landmarks in faces]
        return self.encode([torch.from_numpy(face).permute(2, 0, 1) for face in aligned])
