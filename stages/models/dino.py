"""Vision transformers that learned without words: DINO, DINOv2 and DINOv3, as transformers has them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from stages.base import ModelRef
from stages.models.clip_pixels import ClipPixels
from stages.models.pretrained import load_pretrained
from stages.models.torchvision_compat import ensure_torchvision
from stages.models.weights import locate, unreadable

ensure_torchvision()

from transformers import (  # noqa: E402
    CLIPImageProcessorPil,
    Dinov2Model,
    Dinov2WithRegistersModel,
    DINOv3ViTModel,
    PreTrainedConfig,
    ViTModel,
)

_CLASSES: Mapping[str, Any] = {
    "vit": ViTModel,
    "dinov2": Dinov2Model,
    "dinov2_with_registers": Dinov2WithRegistersModel,
    "dinov3_vit": DINOv3ViTModel,
}


@dataclass(frozen=True, slots=True)
class Dino:
    """A vision transformer. Sources: Caron et al. 2021 (DINO); Oquab et al. 2023 (DINOv2)."""

    model: Any
    canvas: ClipPixels

    def __call__(self, given: Tensor) -> Mapping[str, Tensor]:
        """``tokens`` after the final norm, (picture, token, channel), and ``vector``, the first, that of the class."""
        tokens: Tensor = self.model(pixel_values=self.canvas.normalise(given)).last_hidden_state
        return {"tokens": tokens, "vector": tokens[:, 0]}


def load_dino(ref: ModelRef, device: str) -> Dino:
    """A network from the hub or a folder, with the preprocessing that lies beside it.

    Raises:
        ValueError: If it is not there, damaged, no safetensors, or of another architecture.
    """
    try:
        config, _ = PreTrainedConfig.get_config_dict(locate(ref), revision=ref.revision or "main")
    except OSError as error:
        raise unreadable(ref, f"no config.json in {ref.name!r}", error) from error
    loader = _CLASSES.get(str(config.get("model_type")), Dinov2Model)
    options: dict[str, Any] = {"add_pooling_layer": False} if loader is ViTModel else {}  # DINO's own weights have none
    return Dino(load_pretrained(loader, ref, device, tuple(_CLASSES), **options), _load_canvas(ref))


def _load_canvas(ref: ModelRef) -> ClipPixels:
    try:
        found, _ = CLIPImageProcessorPil.get_image_processor_dict(locate(ref), revision=ref.revision or "main")
        size = found["size"]
        resized = size if isinstance(size, int) else size.get("shortest_edge") or size["height"]
        crops = found.get("do_center_crop", False)
        return ClipPixels(
            side=found["crop_size"]["height"] if crops else resized,
            resized=resized,
            fit="shortest" if crops else "squash",
            resample=Image.Resampling(found["resample"]),
            mean=tuple(found["image_mean"]),
            std=tuple(found["image_std"]),
        )
    except OSError as error:
        raise unreadable(ref, f"no preprocessor_config.json in {ref.name!r}", error) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"no preprocessor_config.json that DINO has in {ref.name!r}: {error!r:.300}") from error
