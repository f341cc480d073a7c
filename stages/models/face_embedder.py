"""Faces to vectors that tell people apart: AdaFace's residual networks, from their authors' checkpoint files."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from stages.alignment import SIDE
from stages.base import ModelRef
from stages.models.checkpoint import load_checkpoint

Depth: TypeAlias = Literal["ir18", "ir34", "ir50", "ir101"]

_BLOCKS: Mapping[Depth, tuple[int, int, int, int]] = {
    "ir18": (2, 2, 2, 2),
    "ir34": (3, 4, 6, 3),
    "ir50": (3, 4, 14, 3),
    "ir101": (3, 13, 30, 3),
}
"""Blocks of each width. Source: AdaFace's code, net.py; He et al. 2016, table 1, with blocks of two layers."""

_WIDTHS = (64, 128, 256, 512)


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
