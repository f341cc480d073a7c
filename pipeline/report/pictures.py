"""Small pictures for a page: thumbnails as data URIs, and masks as SVG outlines."""

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from manifests.record import Mask, Picture
from stages.masks import decode_mask
from stages.pixels import read_picture, resize

_OUTLINE_SIDE = 256
_QUALITY = 55
_EFFORT = 2  # of 0 to 6: 4 makes files of the same quality 3 % smaller in more than twice the time


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """A small WebP as a data URI; ``width`` and ``height`` are those of the picture it was made from."""

    src: str
    width: int
    height: int


def thumbnail(picture: Picture, side: int) -> Thumbnail:
    """A thumbnail of at most ``side`` pixels a side; it never grows."""
    scale = min(1.0, side / max(picture.width, picture.height))
    small = resize(read_picture(picture), max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    sink = io.BytesIO()
    Image.fromarray(small).save(sink, "WEBP", quality=_QUALITY, method=_EFFORT)
    return Thumbnail(src=data_uri(sink.getvalue(), "image/webp"), width=picture.width, height=picture.height)


def data_uri(data: bytes, mime: str) -> str:
    """Bytes as a URI that needs no network."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def outline(mask: Mask) -> str:
    """The mask's edge as an SVG path in the mask's pixels, to be filled by the even-odd rule; empty for no pixels.

    Exact to about one part in 256 of the longer side, which keeps a path to some hundred bytes.
    """
    scale = min(1.0, _OUTLINE_SIDE / max(mask.height, mask.width))
    size = max(1, round(mask.width * scale)), max(1, round(mask.height * scale))
    small = cv2.resize(decode_mask(mask).astype(np.uint8) * 255, size, interpolation=cv2.INTER_AREA)
    contours, _ = cv2.findContours((small > 127).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    stretch = np.array([mask.width / size[0], mask.height / size[1]])
    return "".join(_paths(contours, stretch))


def _paths(contours: tuple[npt.NDArray[np.int32], ...], stretch: npt.NDArray[np.float64]) -> Iterator[str]:
    for contour in contours:
        points = cv2.approxPolyDP(contour, 0.7, True).reshape(-1, 2)
        if len(points) >= 3:
            centres = np.rint((points + 0.5) * stretch).astype(int)
            yield "M" + " ".join(f"{x},{y}" for x, y in centres.tolist()) + "z"
