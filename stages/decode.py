"""Decode: the fetched file becomes an upright 8-bit sRGB picture of a trainable size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
from pydantic import Field
from typing_extensions import override

from manifests.record import Picture
from stages.base import Context, Drop, Fail, Params, Stage
from stages.formats import ImageError
from stages.pixels import Pixels, resize, write_jpeg
from stages.web_image import WebImage


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeIn:
    """What ``decode`` reads."""

    key: str
    original: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeOut:
    """What ``decode`` writes: the picture, and the size that the upright original had."""

    image: Picture
    original_width: int
    original_height: int


class DecodeParams(Params):
    """Which pictures are fit, and how large they are kept."""

    max_pixels: int = Field(
        100_000_000,
        ge=1,
        le=178_956_970,
        description="Width times height above which a file is not decoded at all, whatever it holds.",
    )
    min_side: int = Field(128, ge=1, description="Shorter side of the original, in pixels, below which it is dropped.")
    max_aspect: float = Field(4.0, ge=1, description="Longer side / shorter side above which a picture is dropped.")
    min_std: float = Field(
        2.0,
        ge=0,
        le=127.5,
        description="Least standard deviation, in 8-bit levels, of its liveliest channel; flatter ones are dropped.",
    )
    max_side: int | None = Field(
        1024, ge=16, description="Longer side, in pixels, to which larger pictures are shrunk; null keeps every size."
    )
    jpeg_margin: float = Field(
        2.0,
        ge=1,
        le=8,
        description="libjpeg may shrink a JPEG by 2, 4 or 8 while it decodes, as long as it leaves this many times the "
        "wanted pixels on each side. 1 is the fastest, and a level of 255 less exact.",
    )
    jpeg_quality: int = Field(95, ge=1, le=100, description="libjpeg's quality of the picture that is kept.")


class Decode(Stage[DecodeIn, DecodeOut]):
    """Make of any web image an upright 8-bit sRGB JPEG, and sort out those that are broken or unfit.

    Pictures larger than ``max_side`` are shrunk, with their aspect kept to the nearest pixel; none is ever enlarged.
    Subjects are cut from the original later, so nothing of their detail is lost here.
    """

    In, Out, Params = DecodeIn, DecodeOut, DecodeParams
    version = 4
    reasons: ClassVar[Mapping[str, str]] = {
        "not_an_image": "The file is no image: HTML, SVG, text, empty.",
        "unsupported_format": "Of a format that is not opened (HEIC, ICO, JPEG XL), or whose colours nothing tells.",
        "bomb": "More pixels than `max_pixels`, by its header, or more work than any picture needs.",
        "truncated": "The file ends early.",
        "corrupt": "The file is damaged.",
        "too_small": "The shorter side is below `min_side`.",
        "extreme_aspect": "Longer by shorter side is above `max_aspect`.",
        "flat": "Nearly one colour, like a placeholder.",
    }

    def __init__(self, params: DecodeParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: DecodeParams, context: Context) -> "Decode":
        return cls(params)

    @override
    def process(self, batch: Sequence[DecodeIn]) -> list[DecodeOut | Drop | Fail]:
        return [self._decode(record.original) for record in batch]

    def _decode(self, original: bytes) -> DecodeOut | Drop | Fail:
        try:
            opened = WebImage(original, self.params.max_pixels)
            unfit = self._judge_size(opened.width, opened.height)
            if unfit:
                return unfit
            upright = opened.decode(self._least_side())
        except ImageError as error:
            return Fail(error.reason, str(error))
        pixels = self._shrink(upright.pixels, upright.width, upright.height)
        image = write_jpeg(pixels, self.params.jpeg_quality)
        kept = DecodeOut(image=image, original_width=upright.width, original_height=upright.height)
        return self._judge_contrast(pixels) or kept

    def _least_side(self) -> float | None:
        return self.params.jpeg_margin * self.params.max_side if self.params.max_side else None

    def _judge_size(self, width: int, height: int) -> Drop | None:
        short, long = sorted((width, height))
        if short < self.params.min_side:
            return Drop("too_small", f"{width} x {height} pixels; min_side is {self.params.min_side}")
        if long > short * self.params.max_aspect:
            return Drop("extreme_aspect", f"{width} x {height} pixels; max_aspect is {self.params.max_aspect}")
        return None

    def _judge_contrast(self, pixels: Pixels) -> Drop | None:
        std = float(cv2.meanStdDev(pixels)[1].max())
        if std < self.params.min_std:
            return Drop("flat", f"standard deviation {std:.2f} of 255; min_std is {self.params.min_std}")
        return None

    def _shrink(self, pixels: Pixels, width: int, height: int) -> Pixels:
        scale = min(1.0, (self.params.max_side or max(width, height)) / max(width, height))
        return resize(pixels, max(1, round(width * scale)), max(1, round(height * scale)))
