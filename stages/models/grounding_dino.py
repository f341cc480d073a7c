"""Grounding DINO as transformers has it, from the hub or a folder; safetensors only."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from stages.base import ModelRef
from stages.models.detector import Network
from stages.models.frame import Frame
from stages.models.parts import load_part
from stages.models.pretrained import load_pretrained
from stages.models.prompts import PromptWriter
from stages.models.torchvision_compat import ensure_torchvision

ensure_torchvision()

from transformers import AutoTokenizer, GroundingDinoForObjectDetection, GroundingDinoImageProcessorPil  # noqa: E402


@dataclass(frozen=True, slots=True)
class GroundingDino:
    """Grounding DINO. Source: Liu et al. 2023, "Grounding DINO: Marrying DINO with Grounded Pre-Training"."""

    model: GroundingDinoForObjectDetection

    def detect(self, pixels: Tensor, is_picture: Tensor, ids: Tensor, is_text: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes and logits, as :meth:`stages.models.detector.Network.detect`."""
        found = self.model(
            pixel_values=pixels, pixel_mask=is_picture.long(), input_ids=ids, attention_mask=is_text.long()
        )
        return found.pred_boxes, found.logits


@dataclass(frozen=True, slots=True)
class Loaded:
    """A network with what its pictures and prompts are made by."""

    network: Network
    frame: Frame
    writer: PromptWriter


def load_grounding_dino(ref: ModelRef, device: str) -> Loaded:
    """A network from the hub or a folder, in evaluation mode, with its tokenizer and the size it wants pictures at.

    Args:
        ref: Bundled model, folder or hub id.
        device: Where it goes.

    Raises:
        ValueError: If a part of it is not there, damaged, no safetensors, or of another architecture.
    """
    model = load_pretrained(GroundingDinoForObjectDetection, ref, device, ("grounding-dino",))
    writer = PromptWriter(load_part(AutoTokenizer, ref), model.config.max_text_len)
    return Loaded(GroundingDino(model), frame_of(load_part(GroundingDinoImageProcessorPil, ref)), writer)


def frame_of(processor: Any) -> Frame:
    """What an image processor does, as a frame.

    Raises:
        ValueError: If it is not by the shorter and the longer side that it sizes pictures.
    """
    size = processor.size
    if not (size.shortest_edge and size.longest_edge):
        raise ValueError(f"preprocessor_config.json: size must have shortest_edge and longest_edge, not {size}")
    return Frame(
        short_side=size.shortest_edge,
        long_side=size.longest_edge,
        mean=tuple(processor.image_mean),
        std=tuple(processor.image_std),
    )
