"""SAM and SAM 2 as transformers has them, from the hub or a folder; safetensors only."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from stages.base import ModelRef
from stages.models.canvas import Canvas
from stages.models.pretrained import load_pretrained
from stages.models.segmenter import Embedding
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import Sam2Model, SamModel  # noqa: E402


@dataclass(frozen=True, slots=True)
class Sam:
    """SAM. Source: Kirillov et al. 2023, "Segment Anything"."""

    model: SamModel

    @property
    def canvas(self) -> Canvas:
        """A padded square."""
        config: Any = self.model.config
        return Canvas(config.vision_config.image_size, is_padded=True)

    def embed(self, pixels: Tensor) -> Embedding:
        """One map a picture."""
        return (self.model.get_image_embeddings(pixels),)

    def decode(self, embedding: Embedding, pictures: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Three masks a box; boxes of all pictures at once."""
        # One prompt a row, each with its picture's map, so that pictures need not have equally many boxes.
        found = self.model(image_embeddings=embedding[0][pictures], input_boxes=boxes[:, None], multimask_output=True)
        return found.pred_masks[:, 0], found.iou_scores[:, 0]


@dataclass(frozen=True, slots=True)
class Sam2:
    """SAM 2 on single pictures. Source: Ravi et al. 2024, "SAM 2: Segment Anything in Images and Videos"."""

    model: Sam2Model

    @property
    def canvas(self) -> Canvas:
        """A square that pictures are stretched to."""
        config: Any = self.model.config
        return Canvas(config.prompt_encoder_config.image_size, is_padded=False)

    def embed(self, pixels: Tensor) -> Embedding:
        """Three maps a picture, the finest first."""
        return tuple(self.model.get_image_embeddings(pixels))

    def decode(self, embedding: Embedding, pictures: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Three masks a box; boxes of all pictures at once."""
        maps = [level[pictures] for level in embedding]
        found = self.model(image_embeddings=maps, input_boxes=boxes[:, None], multimask_output=True)
        return found.pred_masks[:, 0], found.iou_scores[:, 0]


_TYPES = {"sam": ("sam",), "sam2": ("sam2", "sam2_video")}
"""What a config may say it is; the video models hold the picture models."""


def load_sam(kind: Literal["sam", "sam2"], ref: ModelRef, device: str) -> Sam | Sam2:
    """A network from the hub or a folder, in evaluation mode.

    Args:
        kind: Its architecture.
        ref: Bundled model, folder or hub id.
        device: Where it goes.

    Raises:
        ValueError: If it is not there, damaged, no safetensors, or of another architecture.
    """
    loader = SamModel if kind == "sam" else Sam2Model
    model = load_pretrained(loader, ref, device, _TYPES[kind])
    return Sam(model) if kind == "sam" else Sam2(model)
