"""Ground, segment and crop one picture at a time, as released pipelines do it with the networks' own processors."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.perception_networks import (
    BertTokenizerFast,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessorPil,
    SamImageProcessorPil,
    SamModel,
)
from manifests.record import Box

from transformers import GroundingDinoProcessor, SamProcessor  # isort: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """The loop of the demos of Grounded-SAM and of Subject-Diffusion: each picture by itself, from file to crops."""

    device: str
    precision: torch.dtype
    detector: Any
    processor: Any
    segmenter: Any
    sam_processor: Any
    box_threshold: float
    text_threshold: float

    @classmethod
    def load(cls, folders: tuple[Path, Path], device: str, precision: torch.dtype, threshold: float) -> "Loop":
        """From the folders that :func:`benchmarks.perception_networks.save_networks` wrote."""
        detector, segmenter = folders
        tokenizer = BertTokenizerFast.from_pretrained(detector)
        return cls(
            device=device,
            precision=precision,
            detector=GroundingDinoForObjectDetection.from_pretrained(detector).eval().to(device),
            processor=GroundingDinoProcessor(GroundingDinoImageProcessorPil.from_pretrained(detector), tokenizer),
            segmenter=SamModel.from_pretrained(segmenter).eval().to(device),
            sam_processor=SamProcessor(SamImageProcessorPil.from_pretrained(segmenter)),
            box_threshold=threshold,
            text_threshold=threshold,
        )

    @torch.inference_mode()
    def __call__(self, data: bytes, phrases: Sequence[str], boxes: Sequence[Box]) -> list[bytes]:
        """The crops of a picture's ``boxes``, as JPEGs; what is found for its phrases is thrown away.

        Random weights find nothing sensible, so boxes are given to the segmenter, as many as there are phrases.
        """
        image = Image.open(BytesIO(data)).convert("RGB")
        with torch.autocast(self.device, self.precision, enabled=self.precision != torch.float32):
            self._detect(image, phrases)
            masks = self._segment(image, boxes)
        return [_crop(image, mask, box) for mask, box in zip(masks, boxes, strict=True)]

    def _detect(self, image: Image.Image, phrases: Sequence[str]) -> Any:
        text = " . ".join(phrases) + " ."
        inputs = self.processor(images=image, text=text, return_tensors="pt").to(self.device)
        return self.processor.post_process_grounded_object_detection(
            self.detector(**inputs),
            inputs["input_ids"],
            threshold=self.box_threshold,
            text_threshold=self.text_threshold,
            target_sizes=[image.size[::-1]],
        )

    def _segment(self, image: Image.Image, boxes: Sequence[Box]) -> Any:
        corners = [[list(box.xyxy) for box in boxes]]
        inputs = self.sam_processor(images=image, input_boxes=corners, return_tensors="pt").to(self.device)
        sizes, resized = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
        inputs["input_boxes"] = inputs["input_boxes"].float()
        found = self.segmenter(**inputs, multimask_output=True)
        (masks,) = self.sam_processor.image_processor.post_process_masks(
            found.pred_masks.float().cpu(), sizes.cpu(), resized.cpu()
        )
        best = found.iou_scores[0].float().argmax(dim=1).cpu()
        return masks[torch.arange(len(best)), best].numpy()


def _crop(image: Image.Image, mask: Any, box: Box) -> bytes:
    x0, y0, x1, y1 = (int(side) for side in box.xyxy)
    cut = np.where(mask[..., None], np.asarray(image), 255)[y0:y1, x0:x1]
    file = BytesIO()
    Image.fromarray(cut.astype(np.uint8)).save(file, "JPEG", quality=95)
    return file.getvalue()
