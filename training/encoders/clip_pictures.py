"""CLIP's half for pictures live, where no features are kept: vectors and local tokens as the engine's ``embed`` has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from training.torchvision_compat import ensure_torchvision
from training.weights import Weights, load_weights


@dataclass(frozen=True, slots=True)
class Seen:
    """What CLIP says of pictures: projected vectors, and the class's and the patches' states after the last layer."""

    vectors: Float[Tensor, "picture dim"]
    tokens: Float[Tensor, "picture token state"]


class ClipPictures(nn.Module):
    """The half, frozen.

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision".
    """

    def __init__(self, network: Any, processor: Any) -> None:
        super().__init__()
        self.network = network.requires_grad_(False).eval()
        self.processor = processor

    def train(self, mode: bool = True) -> "ClipPictures":
        """It stays as it is: it is frozen."""
        return super().train(False)

    @torch.no_grad()
    def see(self, pictures: Sequence[UInt8[Tensor, "height width 3"]]) -> Seen:
        """Features of pictures, cut and resized as the checkpoint's own preprocessing says."""
        images = [Image.fromarray(picture.cpu().numpy()) for picture in pictures]
        values = self.processor(images, return_tensors="pt")["pixel_values"]
        network = self.network
        found = network.vision_model(pixel_values=values.to(network.device, network.dtype))
        return Seen(network.visual_projection(found.pooler_output), found.last_hidden_state)


def load_clip_pictures(weights: Weights, device: torch.device | str = "cpu", load: bool = True) -> ClipPictures:
    """The half from a folder or the hub, in float32; without ``load``, its network has fresh weights.

    Raises:
        OSError: If it is not there.
    """
    ensure_torchvision()
    from transformers import CLIPImageProcessorPil

    processor: Any = CLIPImageProcessorPil
    network = _loaded(weights, device) if load else _fresh(weights, device)
    return ClipPictures(network, load_weights(processor, weights))


def _loaded(weights: Weights, device: torch.device | str) -> Any:
    return load_weights(picture_half(), weights, dtype=torch.float32).to(device)


def _fresh(weights: Weights, device: torch.device | str) -> Any:
    from transformers import CLIPVisionConfig

    config: Any = CLIPVisionConfig
    with torch.device(device):
        return picture_half()(load_weights(config, weights))


def picture_half() -> Any:
    """The class of CLIP's half for pictures, that passes over the other in silence."""
    ensure_torchvision()
    from transformers import CLIPVisionModelWithProjection

    class PictureHalf(CLIPVisionModelWithProjection):
        _keys_to_ignore_on_load_unexpected = [r"^text_model\.", r"^text_projection\.", r"^logit_scale$"]  # noqa: RUF012

    return PictureHalf
