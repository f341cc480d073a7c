"""Faces to vectors that tell people apart: AdaFace's residual networks, from their authors' checkpoint files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from stages.alignment import SIDE, Points, align_face
from stages.base import ModelRef
from stages.models.checkpoint import load_checkpoint
from stages.pixels import Pixels

Vectors: TypeAlias = npt.NDArray[np.float32]
"""(face, dimension)."""

Depth: TypeAlias = Literal["ir18", "ir34", "ir50", "ir101"]

_BLOCKS: Mapping[Depth, tuple[int, int, int, int]] = {
    "ir18": (2, 2, 2, 2),
    "ir34": (3, 4, 6, 3),
    "ir50": (3, 4, 14, 3),
    "ir101": (3, 13, 30, 3),
}
"""Blocks of each width. Source: AdaFace's code, net.py; He et al. 2016, table 1, with blocks of two layers."""

_WIDTHS = (64, 128, 256, 512)


class FaceEmbedder(Protocol):
    """What turns aligned faces into vectors."""

    def __call__(self, faces: Sequence[Pixels]) -> Vectors:
        """A vector of length 1 for each aligned face, in order. Faces do not influence each other."""
        ...


def embed_faces(embedder: FaceEmbedder, pictures: Sequence[Pixels], landmarks: Sequence[Points]) -> Vectors:
    """The vector of one face in each picture.

    Args:
        embedder: The network.
        pictures: The pictures; the larger the face in it the better, from 112 pixels on nothing is gained.
        landmarks: The face's five landmarks, in pixels of its picture; :func:`stages.alignment.as_points` scales.

    Returns:
        (picture, 512).

    Raises:
        ValueError: If landmarks are not five, all in one place, or no numbers.
    """
    return embedder([align_face(picture, points) for picture, points in zip(pictures, landmarks, strict=True)])


class Block(nn.Module):
    """A residual block of two layers, normalised first. Source: Deng et al. 2019, "ArcFace", section 4.1 (IR)."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer = nn.MaxPool2d(1, stride) if channels == width else _projection(channels, width, stride)
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.PReLU(width),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(face, channel, y, x) to (face, width, y / stride, x / stride)."""
        return torch.add(self.res_layer(x), self.shortcut_layer(x))


def _projection(channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width))


class FaceNetwork(nn.Module):
    """AdaFace's backbone, with the parts named as in its checkpoints.

    Source: Kim et al. 2022, "AdaFace: Quality Adaptive Margin for Face Recognition", and its code, net.py.
    """

    def __init__(self, depth: Depth) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.PReLU(64))
        self.body = nn.Sequential(*_blocks(_BLOCKS[depth]))
        side = SIDE // 2 ** len(_WIDTHS)
        self.output_layer = nn.Sequential(
            nn.BatchNorm2d(512),
            nn.Dropout(0.4),
            nn.Flatten(),
            nn.Linear(512 * side * side, 512),
            nn.BatchNorm1d(512, affine=False),
        )

    def forward(self, faces: Tensor) -> Tensor:
        """BGR in [-1, 1], (face, 3, 112, 112), to vectors of length 1, (face, 512)."""
        return F.normalize(self.output_layer(self.body(self.input_layer(faces))))


def _blocks(counts: Sequence[int]) -> list[Block]:
    """Every width starts with a block that halves the sides."""
    blocks: list[Block] = []
    channels = _WIDTHS[0]
    for width, count in zip(_WIDTHS, counts, strict=True):
        blocks.append(Block(channels, width, 2))
        blocks += [Block(width, width, 1) for _ in range(count - 1)]
        channels = width
    return blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaFace:
    """A :class:`FaceEmbedder` around a network, which always takes ``faces_per_call``, filled up with gray.

    Attributes:
        network: On ``device``, in evaluation mode.
        device: Where it is.
        precision: Type that faces are embedded in.
        faces_per_call: Faces embedded at once.
    """

    network: nn.Module
    device: str
    precision: torch.dtype = torch.float32
    faces_per_call: int = 32

    @torch.inference_mode()
    def __call__(self, faces: Sequence[Pixels]) -> Vectors:
        """A vector of length 1 for each aligned face, in order: (face, 512)."""
        parts = [self._embed(faces[n : n + self.faces_per_call]) for n in range(0, len(faces), self.faces_per_call)]
        return np.concatenate([np.empty((0, 512), np.float32), *parts])

    def _embed(self, faces: Sequence[Pixels]) -> Vectors:
        pixels = torch.full((self.faces_per_call, 3, SIDE, SIDE), 127.5, device=self.device)
        pixels[: len(faces)] = torch.from_numpy(np.stack(faces)[..., ::-1].copy()).permute(0, 3, 1, 2).to(self.device)
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            vectors = self.network(pixels / 127.5 - 1)
        return np.asarray(vectors[: len(faces)].float().cpu().numpy())


def load_face_network(ref: ModelRef, depth: Depth, device: str) -> FaceNetwork:
    """A network from a checkpoint (``adaface_ir50_ms1mv2.ckpt`` and the like), in evaluation mode and frozen.

    Args:
        ref: The file: the authors' ``.ckpt``, or safetensors of the backbone alone.
        depth: The size it was trained at.
        device: Where it goes.

    Raises:
        ValueError: If it is not there, damaged, of another size, or a pickle of more than tensors.
    """
    network = FaceNetwork(depth)
    load_checkpoint(network, ref, backbone)
    return network.eval().requires_grad_(False).to(device)


def backbone(state: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """The backbone's weights by its own names, of a checkpoint that may hold the training's head and more beside."""
    weights: Mapping[str, Tensor] = state.get("state_dict", state)
    mine = {name.removeprefix("model."): weight for name, weight in weights.items() if name.startswith("model.")}
    return mine or weights
