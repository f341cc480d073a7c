"""Between encoded pictures and pixels, and from size to size."""

from functools import lru_cache
from io import BytesIO
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from manifests.record import Picture

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""sRGB, uint8, (height, width, 3)."""

Gray: TypeAlias = npt.NDArray[np.uint8]
"""One channel, uint8, (height, width)."""


def read_picture(picture: Picture) -> Pixels:
    """The pixels of a picture of ours, read-only. The last ones stay decoded for the stages that follow."""
    return _read_picture(picture)


@lru_cache(maxsize=32)  # stages in one process take a batch in turn; two default batches fit
def _read_picture(picture: Picture) -> Pixels:
    if picture.format == "jpg":
        return read_only(simplejpeg.decode_jpeg(picture.data, "RGB"))
    with Image.open(BytesIO(picture.data), formats=["PNG"]) as image:
        return read_only(np.array(image.convert("RGB")))


def write_jpeg(pixels: Pixels, quality: int = 95) -> Picture:
    """Encode as JPEG without metadata and with chroma at full resolution (4:4:4).

    Args:
        pixels: What to encode.
        quality: libjpeg's quality, 1 to 100.
    """
    height, width, _ = pixels.shape
    data = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "444")
    return Picture(format="jpg", width=width, height=height, data=data)


def write_png(pixels: Pixels | Gray) -> Picture:
    """Encode as PNG without metadata: RGB or gray, as the array's shape says."""
    height, width = pixels.shape[:2]
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return Picture(format="png", width=width, height=height, data=file.getvalue())


def resize(pixels: Pixels, width: int, height: int) -> Pixels:
    """Resize by area averaging where no side grows, by cubic interpolation otherwise."""
    if (height, width) == pixels.shape[:2]:
        return pixels
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, (width, height), interpolation=method), np.uint8)


def read_only(pixels: Pixels) -> Pixels:
    """The same pixels, which nobody can write to from now on."""
    pixels.flags.writeable = False
    return pixels
