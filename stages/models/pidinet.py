"""PiDiNet: edges as people draw them, from the checkpoint that its authors released (``table5_pidinet.pth``).

Source: Su et al. 2021, "Pixel Difference Networks for Efficient Edge Detection": section 3 and figure 5, with the
configuration CARV-4, CDCM and CSAM at C = 60.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from stages.base import ModelRef
from stages.models.checkpoint import load_checkpoint
from stages.models.drawer import to_gray
from stages.pixels import Gray, Pixels

_CHANNELS, _DILATED_CHANNELS = 60, 24
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_SMALLEST_SIDE = 8
"""Pixels that three halvings leave one of."""

_KERNELS = {"cd": 3, "ad": 3, "rd": 5, "cv": 3}
"""Each stage has one convolution of central, angular and radial pixel differences, and a common one, in this order.
All are run as common convolutions (equation 3); that of radial differences of 3 x 3 weights looks at 5 x 5 pixels."""


class _Block(nn.Module):
    """A separable convolution beside a shortcut; ``stride`` 2 halves the sides first."""

    def __init__(self, kernel: int, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(stride, stride) if stride > 1 else nn.Identity()
        self.conv1 = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.conv2 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.shortcut = nn.Conv2d(channels, out_channels, 1) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        found: Tensor = self.conv2(self.conv1(x).relu()) + self.shortcut(x)
        return found


class _Dilations(nn.Module):
    """CDCM: the sum of convolutions at four dilations, so that edges of any scale count."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 1)
        for number, dilation in enumerate((5, 7, 9, 11), 1):
            conv = nn.Conv2d(out_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)
            self.add_module(f"conv2_{number}", conv)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x.relu())
        parts: list[Tensor] = [self.get_submodule(f"conv2_{number}")(x) for number in range(1, 5)]
        return parts[0] + parts[1] + parts[2] + parts[3]


class _Attention(nn.Module):
    """CSAM: a weight in [0, 1] for every place, so that the background counts less."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 4, 1)
        self.conv2 = nn.Conv2d(4, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.conv2(self.conv1(x.relu())).sigmoid()
        return x * weight


class _Reduce(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.conv(x)
        return found


class PiDiNet(nn.Module):
    """The network, with modules named as the authors' checkpoints name their weights.

    Args:
        channels: Of the first stage.
        dilated_channels: Of CDCM.
    """

    def __init__(self, channels: int = _CHANNELS, dilated_channels: int = _DILATED_CHANNELS) -> None:
        super().__init__()
        first, *kernels = _KERNELS.values()
        self.init_block = nn.Conv2d(3, channels, first, padding=first // 2, bias=False)
        self.stages = [[f"block1_{number}" for number in range(1, 4)]]
        self._add_blocks(self.stages[0], kernels, channels, channels, 1)
        widths = [channels, 2 * channels, 4 * channels, 4 * channels]
        for stage in range(1, 4):
            self.stages.append([f"block{stage + 1}_{number}" for number in range(1, 5)])
            self._add_blocks(self.stages[stage], [first, *kernels], widths[stage - 1], widths[stage], 2)
        self.dilations = nn.ModuleList(_Dilations(width, dilated_channels) for width in widths)
        self.attentions = nn.ModuleList(_Attention(dilated_channels) for _ in widths)
        self.conv_reduces = nn.ModuleList(_Reduce(dilated_channels) for _ in widths)
        self.classifier = nn.Conv2d(4, 1, 1)

    def _add_blocks(self, names: list[str], kernels: list[int], channels: int, out_channels: int, stride: int) -> None:
        for name, kernel in zip(names, kernels, strict=True):
            self.add_module(name, _Block(kernel, channels, out_channels, stride))
            channels, stride = out_channels, 1

    def forward(self, pixels: Tensor) -> Tensor:
        """Edges, logits of (picture, y, x), of normalised pictures, (picture, channel, y, x)."""
        x, size, edges = self.init_block(pixels), pixels.shape[2:], []
        for names, dilate, attend, reduce in zip(
            self.stages, self.dilations, self.attentions, self.conv_reduces, strict=True
        ):
            for name in names:
                x = self.get_submodule(name)(x)
            small = reduce(attend(dilate(x)))
            edges.append(F.interpolate(small, size, mode="bilinear", align_corners=False))
        found: Tensor = self.classifier(torch.cat(edges, dim=1))[:, 0]
        return found


def _central(weight: Tensor) -> Tensor:
    """Weights of differences to the centre: what all weigh together is taken from the centre."""
    common = weight.flatten(2).clone()
    common[:, :, 4] -= weight.flatten(2).sum(2)
    return common.view_as(weight)


def _angular(weight: Tensor) -> Tensor:
    """Weights of differences to the next clockwise."""
    flat = weight.flatten(2)
    return (flat - flat[:, :, [3, 0, 1, 6, 4, 2, 7, 8, 5]]).view_as(weight)


def _radial(weight: Tensor) -> Tensor:
    """Weights of differences between the outer and the inner ring of 5 x 5 pixels, from 3 x 3 (the centre unused)."""
    common = weight.new_zeros(*weight.shape[:2], 25)
    common[:, :, [0, 2, 4, 10, 14, 20, 22, 24]] = weight.flatten(2)[:, :, 1:]
    common[:, :, [6, 7, 8, 11, 13, 16, 17, 18]] = -weight.flatten(2)[:, :, 1:]
    return common.view(*weight.shape[:2], 5, 5)


_CONVERTERS: Mapping[str, Callable[[Tensor], Tensor]] = {"cd": _central, "ad": _angular, "rd": _radial}
_KINDS = tuple(_KERNELS)


def to_common(checkpoint: Mapping[str, Any]) -> Mapping[str, Tensor]:
    """A checkpoint's weights as those of common convolutions.

    Args:
        checkpoint: With or without what training kept beside the weights, with or without the prefix that parallel
            training gave them; of pixel differences, as released, or converted by the authors' script already.
    """
    state = checkpoint.get("state_dict", checkpoint)
    weights: dict[str, Tensor] = {name.removeprefix("module."): weight for name, weight in state.items()}
    if weights["block1_2.conv1.weight"].shape[-1] == _KERNELS["rd"]:
        return weights
    converted = {"init_block.weight": _central(weights["init_block.weight"])}
    for stage in range(1, 5):
        for number, kind in enumerate(_KINDS[1:] if stage == 1 else _KINDS, 1):
            name = f"block{stage}_{number}.conv1.weight"
            converted[name] = _CONVERTERS.get(kind, torch.Tensor.clone)(weights[name])
    return weights | converted


@dataclass(frozen=True, slots=True)
class Sketch:
    """Edges, bright on black, by PiDiNet."""

    model: PiDiNet

    def prepare(self, image: Pixels) -> Tensor:
        """At full size, normalised; pictures thinner than the network can halve are repeated at their edge."""
        pixels = torch.tensor(image).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(x)[:, None, None] for x in (_MEAN, _STD))
        height, width = image.shape[:2]
        lacking = [0, max(0, _SMALLEST_SIDE - width), 0, max(0, _SMALLEST_SIDE - height)]
        return F.pad(((pixels - mean) / std)[None], lacking, mode="replicate")[0]

    def infer(self, pixels: Tensor) -> Tensor:
        """The probability of an edge."""
        edges: Tensor = self.model(pixels)
        return edges.float().sigmoid()

    def finish(self, found: Tensor, height: int, width: int) -> Gray | None:
        """The picture's part; nothing if it is no number somewhere."""
        return to_gray(found[:height, :width]) if found.isfinite().all() else None


def load_pidinet(ref: ModelRef, device: str) -> Sketch:
    """PiDiNet with the weights in a checkpoint file, in evaluation mode.

    Raises:
        ValueError: If it is not there, damaged, of another architecture, or a pickle of more than tensors.
    """
    model = PiDiNet()
    load_checkpoint(model, ref, to_common)
    return Sketch(model.eval().requires_grad_(False).to(device))
