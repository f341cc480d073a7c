"""Where text is written on a picture, by PP-OCR as rapidocr has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from stages.base import ModelRef
from stages.models.extras import needed
from stages.models.onnx import load_onnx
from stages.models.weights import locate
from stages.pixels import Pixels


@dataclass(frozen=True, slots=True)
class TextShare:
    """How much of a picture written text covers: captions, signs, and watermarks in letters.

    Pictures are looked at one by one, shrunk to a longest side; one that is then thinner than 16 pixels shows no text.

    What is detected counts only if it can be read too: alone, the detector takes some whole photographs for a text.

    Source: PP-OCR; package ``rapidocr`` 3.10.
    """

    reader: Any

    def __call__(self, images: Sequence[Pixels], texts: Sequence[str]) -> list[float]:
        """The share of each picture, in [0, 1]; what the records say of it is not looked at."""
        return [share(self.boxes(image), *image.shape[:2]) for image in images]

    def boxes(self, image: Pixels) -> npt.NDArray[np.float32]:
        """Quadrilaterals around lines of text, (box, corner, ``x y``)."""
        found = self.reader(np.ascontiguousarray(image[:, :, ::-1])).boxes
        return np.zeros((0, 4, 2), np.float32) if found is None else np.asarray(found, np.float32)


def share(boxes: npt.NDArray[np.float32], height: int, width: int) -> float:
    """The share of the picture's pixels that lie in a box; those in several count once."""
    covered = np.zeros((height, width), np.uint8)
    for box in boxes:
        cv2.fillPoly(covered, [np.round(box).astype(np.int32)], 1)
    return float(covered.mean())


def load_text_share(ref: ModelRef, side: int, min_score: float) -> TextShare:
    """Detector and reader.

    Args:
        ref: A folder with one ONNX file of each, ``…_det_….onnx`` and ``…_rec_….onnx``.
        side: Longest side that pictures are shrunk to.
        min_score: Confidence with which a line must be read.

    Raises:
        ImportError: If rapidocr is not installed.
        ValueError: If a file is not there or damaged.
    """
    detector, reader = (_only(ref, task) for task in ("det", "rec"))
    settings = {
        "Global.use_cls": False,
        "Global.use_preprocess_img": False,  # it enlarges thin pictures beyond all memory
        "Global.use_vertical_padding": False,
        "Global.log_level": "critical",
        "Global.text_score": min_score,
        "Det.model_path": detector,
        "Det.limit_type": "max",
        "Det.limit_side_len": side,
        "Rec.model_path": reader,
        "EngineConfig.onnxruntime.intra_op_num_threads": 1,
        "EngineConfig.onnxruntime.inter_op_num_threads": 1,
    }
    return TextShare(needed("rapidocr", "score").RapidOCR(params=settings))


def _only(ref: ModelRef, task: str) -> str:
    """The one ONNX file of a task in a folder; loaded once here, as rapidocr says little of a damaged one."""
    folder = Path(locate(ref))
    files = [str(file) for file in folder.glob(f"*_{task}_*.onnx")]
    if len(files) != 1:
        raise ValueError(f"{folder} has {len(files)} files *_{task}_*.onnx, not one")
    load_onnx(ModelRef(name=files[0]))
    return files[0]
