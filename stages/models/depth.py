"""Depth by DPT and Depth Anything as transformers has them, from the hub or a folder; safetensors only."""

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from torch import Tensor

from stages.base import ModelRef
from stages.models.drawer import to_gray
from stages.models.pretrained import load_pretrained, read_settings
from stages.models.torchvision_compat import ensure_torchvision
from stages.pixels import Gray, Pixels

ensure_torchvision()

from transformers import DepthAnythingForDepthEstimation, DPTForDepthEstimation  # noqa: E402

_LOADERS = {"dpt": DPTForDepthEstimation, "depth_anything": DepthAnythingForDepthEstimation}
"""By what config.json says."""


class Side(BaseModel):
    """Height and width in pixels."""

    model_config = ConfigDict(frozen=True)

    height: int = Field(384, ge=1)
    width: int = Field(384, ge=1)


class Preprocessing(BaseModel):
    """How a checkpoint wants its pictures: its preprocessor_config.json, with the processor's defaults.

    What is not done here (padding, other scales) is refused.

    Attributes:
        size: What pictures are fitted to; one number: a square.
        keep_aspect_ratio: One side is fitted, the other follows.
        ensure_multiple_of: Sides are rounded to multiples of this.
        resample: Pillow's number of the filter; 3: bicubic.
        image_mean: Of red, green and blue in [0, 1].
        image_std: Likewise.

    Sources: transformers' DPTImageProcessorPil, which both models use; Ranftl et al. 2020, "Towards Robust Monocular
    Depth Estimation", MiDaS's ``Resize``.
    """

    model_config = ConfigDict(frozen=True)

    do_resize: Literal[True] = True
    do_rescale: Literal[True] = True
    do_normalize: Literal[True] = True
    do_pad: Literal[False] | None = None
    size: Annotated[Side, BeforeValidator(lambda x: {"height": x, "width": x} if isinstance(x, int) else x)] = Side()
    keep_aspect_ratio: bool = False
    ensure_multiple_of: int = Field(1, ge=1)
    resample: Image.Resampling = Image.Resampling.BICUBIC
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """Height and width a picture is resized to.

        At least one multiple each, where the processor's own rounding would give none to thin pictures.
        """
        y, x = self.size.height / height, self.size.width / width
        if self.keep_aspect_ratio:
            y = x = x if abs(1 - x) < abs(1 - y) else y
        return self._round(y * height), self._round(x * width)

    def _round(self, side: float) -> int:
        multiple = self.ensure_multiple_of
        return max(multiple, round(side / multiple) * multiple)

    def __call__(self, image: Pixels) -> Tensor:
        """The picture, resized and normalised: float32, (channel, y, x)."""
        height, width = self.fit(*image.shape[:2])
        resized = np.array(Image.fromarray(image).resize((width, height), self.resample))
        pixels = torch.from_numpy(resized).permute(2, 0, 1).float() / 255
        mean, std = (torch.tensor(x)[:, None, None] for x in (self.image_mean, self.image_std))
        return (pixels - mean) / std


@dataclass(frozen=True, slots=True)
class Depth:
    """Inverse depth, near is bright, spread over all gray levels picture by picture.

    Sources: Ranftl et al. 2021, "Vision Transformers for Dense Prediction"; Yang et al. 2024, "Depth Anything".
    """

    model: DPTForDepthEstimation | DepthAnythingForDepthEstimation
    preprocessing: Preprocessing

    def prepare(self, image: Pixels) -> Tensor:
        """As the checkpoint's own image processor does."""
        return self.preprocessing(image)

    def infer(self, pixels: Tensor) -> Tensor:
        """Inverse depth on a scale that differs from picture to picture."""
        depth: Tensor = self.model(pixels).predicted_depth
        is_metric = getattr(self.model.config, "depth_estimation_type", "relative") == "metric"
        return 1 / depth.float() if is_metric else depth

    def finish(self, found: Tensor, height: int, width: int) -> Gray | None:
        """Resized as transformers does; nothing if it is the same everywhere or no number somewhere."""
        depth = F.interpolate(found[None, None], (height, width), mode="bicubic", align_corners=False)[0, 0]
        low, high = depth.aminmax()
        span = (high - low).item()
        if not math.isfinite(span) or span <= _LEAST_SPAN * max(abs(low.item()), abs(high.item())):
            return None
        return to_gray((depth - low) / span)


_LEAST_SPAN = 1e-5
"""Of the largest depth: less is rounding, not depth."""


def load_depth(ref: ModelRef, device: str) -> Depth:
    """A network from the hub or a folder, in evaluation mode.

    Args:
        ref: Bundled model, folder or hub id.
        device: Where it goes.

    Raises:
        ValueError: If it is not there, damaged, no safetensors, or of another architecture.
    """
    kind = read_settings(ref, "config.json").get("model_type")
    if kind not in _LOADERS:
        raise ValueError(
            f"cannot load {ref.name!r} for depth: its config.json says model_type {kind!r}, not {' or '.join(_LOADERS)}"
        )
    try:
        preprocessing = Preprocessing.model_validate(read_settings(ref, "preprocessor_config.json"))
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in error.errors())
        raise ValueError(f"cannot load {ref.name!r} for depth: its preprocessor_config.json: {wrong}") from error
    return Depth(load_pretrained(_LOADERS[kind], ref, device, (kind,)), preprocessing)
