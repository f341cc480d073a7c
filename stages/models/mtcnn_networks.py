"""The three networks of MTCNN, with the parts named as in facenet-pytorch's weights.

All say the same of a patch: a score in [0, 1] that it shows a face, four moves of the box's edges in shares of its
sides, and, the last of them, ten places of landmarks in shares of its sides: five across, then five down.
"""

from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from stages.base import ModelRef
from stages.models.checkpoint import load_checkpoint
from stages.models.weights import locate


class PNet(nn.Module):
    """The proposer: one output for every second pixel, of the 12 x 12 around it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 10, 3), nn.PReLU(10)
        self.conv2, self.prelu2 = nn.Conv2d(10, 16, 3), nn.PReLU(16)
        self.conv3, self.prelu3 = nn.Conv2d(16, 32, 3), nn.PReLU(32)
        self.conv4_1, self.conv4_2 = nn.Conv2d(32, 2, 1), nn.Conv2d(32, 4, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        """(picture, 3, y, x) in [-1, 1] to (picture, 5, y / 2 - 5, x / 2 - 5)."""
        x = _pool(self.prelu1(self.conv1(pixels)), 2)
        x = self.prelu3(self.conv3(self.prelu2(self.conv2(x))))
        return torch.cat([self.conv4_1(x).softmax(1)[:, 1:], self.conv4_2(x)], 1)


class RNet(nn.Module):
    """The refiner."""

    side, outputs = 24, 5

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 28, 3), nn.PReLU(28)
        self.conv2, self.prelu2 = nn.Conv2d(28, 48, 3), nn.PReLU(48)
        self.conv3, self.prelu3 = nn.Conv2d(48, 64, 2), nn.PReLU(64)
        self.dense4, self.prelu4 = nn.Linear(576, 128), nn.PReLU(128)
        self.dense5_1, self.dense5_2 = nn.Linear(128, 2), nn.Linear(128, 4)

    def forward(self, patches: Tensor) -> Tensor:
        """(patch, 3, 24, 24) in [-1, 1] to (patch, 5)."""
        x = _pool(self.prelu1(self.conv1(patches)), 3)
        x = _pool(self.prelu2(self.conv2(x)), 3)
        x = self.prelu4(self.dense4(_flat(self.prelu3(self.conv3(x)))))
        return torch.cat([self.dense5_1(x).softmax(1)[:, 1:], self.dense5_2(x)], 1)


class ONet(nn.Module):
    """The decider, which finds the landmarks too."""

    side, outputs = 48, 15

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.prelu1 = nn.Conv2d(3, 32, 3), nn.PReLU(32)
        self.conv2, self.prelu2 = nn.Conv2d(32, 64, 3), nn.PReLU(64)
        self.conv3, self.prelu3 = nn.Conv2d(64, 64, 3), nn.PReLU(64)
        self.conv4, self.prelu4 = nn.Conv2d(64, 128, 2), nn.PReLU(128)
        self.dense5, self.prelu5 = nn.Linear(1152, 256), nn.PReLU(256)
        self.dense6_1, self.dense6_2, self.dense6_3 = nn.Linear(256, 2), nn.Linear(256, 4), nn.Linear(256, 10)

    def forward(self, patches: Tensor) -> Tensor:
        """(patch, 3, 48, 48) in [-1, 1] to (patch, 15)."""
        x = _pool(self.prelu1(self.conv1(patches)), 3)
        x = _pool(self.prelu2(self.conv2(x)), 3)
        x = _pool(self.prelu3(self.conv3(x)), 2)
        x = self.prelu5(self.dense5(_flat(self.prelu4(self.conv4(x)))))
        return torch.cat([self.dense6_1(x).softmax(1)[:, 1:], self.dense6_2(x), self.dense6_3(x)], 1)


def _pool(x: Tensor, side: int) -> Tensor:
    return F.max_pool2d(x, side, 2, ceil_mode=True)


def _flat(x: Tensor) -> Tensor:
    """Column by column, as Matlab, where the weights come from, lays out pictures."""
    return x.permute(0, 3, 2, 1).flatten(1)


def load_networks(ref: ModelRef, device: str) -> tuple[PNet, RNet, ONet]:
    """The networks from a folder with ``pnet.pt``, ``rnet.pt`` and ``onet.pt``, in evaluation mode and frozen.

    Raises:
        ValueError: If one is not there, damaged, of another network, or a pickle of more than tensors.
    """
    folder = Path(locate(ref))
    networks = PNet(), RNet(), ONet()
    for network in networks:
        load_checkpoint(network, ModelRef(name=str(folder / f"{type(network).__name__.lower()}.pt")))
        network.eval().requires_grad_(False).to(device)
    return networks
