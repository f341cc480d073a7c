"""Reference images: subjects cut out of the original, at its resolution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

import cv2
import numpy as np
from pydantic import Field
from typing_extensions import override

from manifests.record import DroppedSubject, Mask, Picture, Subject
from stages.base import Context, Drop, Fail, Params, Stage
from stages.geometry import Window, grow, pixel_hull, scale
from stages.masks import decode_mask
from stages.pixels import Gray, Pixels, open_image, resize, write_jpeg


@dataclass(frozen=True, slots=True, kw_only=True)
class CropIn:
    """What ``crop`` reads."""

    original: bytes
    original_width: int
    original_height: int
    image: Picture
    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CropOut:
    """What ``crop`` writes."""

    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


Channel = Annotated[int, Field(ge=0, le=255)]


class CropParams(Params):
    """What a manifest may set on ``crop``."""

    style: Literal["box", "segmented"] = Field(
        "segmented", description="The whole box, or the subject's mask over a plain fill."
    )
    fill: tuple[Channel, Channel, Channel] = Field(
        (255, 255, 255), description="RGB, 0 to 255, around a segmented subject."
    )
    margin: float = Field(0, ge=0, le=1, description="Share of the box's sides added on every side.")
    min_side: int = Field(
        32, ge=1, description="Crops narrower or lower than this, in pixels of the original, drop the subject."
    )
    max_side: int = Field(
        1024, ge=16, description="A crop's longer side is shrunk to this many pixels; none is enlarged."
    )
    jpeg_quality: int = Field(95, ge=1, le=100, description="libjpeg's quality of the crops.")


class Crop(Stage[CropIn, CropOut]):
    """Give every subject its crop, cut from the original before any resize, in the box's proportions.

    Cutting first and resizing after is how λ-ECLIPSE keeps the detail of small subjects.
    """

    In, Out, Params = CropIn, CropOut, CropParams
    reasons: ClassVar[Mapping[str, str]] = {
        "crop_too_small": "The crop is narrower or lower than `min_side`.",
        "no_mask": "Segmented crops need a mask of every subject, and one has none.",
    }
    reads_of_subjects = frozenset({"box"})
    writes_to_subjects = frozenset({"crop"})

    def __init__(self, params: CropParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: CropParams, context: Context) -> Self:
        return cls(params)

    @override
    def process(self, batch: Sequence[CropIn]) -> list[CropOut | Drop | Fail]:
        return [self._crop(record) for record in batch]

    def _crop(self, record: CropIn) -> CropOut | Fail:
        subjects, dropped = [], list(record.dropped_subjects)
        for subject in record.subjects:
            window = self._window(record, subject)
            if self.params.style == "segmented" and subject.mask is None:
                return Fail(
                    "no_mask",
                    f"subject {subject.phrase!r} has no mask; put a segment node before crop, or set style: box",
                )
            if min(window.width, window.height) < self.params.min_side:
                dropped.append(DroppedSubject(phrase=subject.phrase, stage="crop", reason="crop_too_small"))
            else:
                subjects.append(replace(subject, crop=self._cut(record, subject, window)))
        return CropOut(subjects=tuple(subjects), dropped_subjects=tuple(dropped))

    def _window(self, record: CropIn, subject: Subject) -> Window:
        assert subject.box is not None, "promised by reads_of_subjects"
        x, y = record.original_width / record.image.width, record.original_height / record.image.height
        box = grow(scale(subject.box, x, y), self.params.margin)
        return pixel_hull(box, record.original_width, record.original_height)

    def _cut(self, record: CropIn, subject: Subject, window: Window) -> Picture:
        original = open_image(record.original, record.original_width * record.original_height)
        pixels = original[window.slices]
        if self.params.style == "segmented" and subject.mask:
            height, width = original.shape[:2]
            pixels = blend(pixels, soft_mask(subject.mask, height, width)[window.slices], self.params.fill)
        return write_jpeg(_shrink(pixels, self.params.max_side), self.params.jpeg_quality)


def soft_mask(mask: Mask, height: int, width: int) -> Gray:
    """A mask at another size with linear edges: 0 outside, 255 inside."""
    hard = decode_mask(mask).astype(np.uint8) * 255
    return np.asarray(cv2.resize(hard, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def blend(pixels: Pixels, alpha: Gray, fill: tuple[int, int, int]) -> Pixels:
    """``pixels`` over a plain RGB ``fill``, by an ``alpha`` from 0 (fill) to 255 (pixels)."""
    inside = alpha[:, :, None].astype(np.uint16)
    mixed = (pixels * inside + np.array(fill, np.uint16) * (255 - inside) + 127) // 255
    return mixed.astype(np.uint8)


def _shrink(pixels: Pixels, max_side: int) -> Pixels:
    height, width = pixels.shape[:2]
    factor = min(1.0, max_side / max(height, width))
    return resize(pixels, max(1, round(width * factor)), max(1, round(height * factor)))
