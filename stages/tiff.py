"""TIFF's many kinds of samples: which are opened, and floats that Pillow does not read."""

import warnings
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from stages.colour import float_levels
from stages.formats import ImageError

_UNSIGNED, _SIGNED, _FLOAT = 1, 2, 3
_SEPARATE_PLANES = 2
_CUT_OFF = r"(Truncated File|Corrupt EXIF data\.  Expecting)"
"""What Pillow's warnings begin with where a directory, or what it points to, lies beyond the end of a file."""

_GRAY_OR_RGB = {1: 1, 2: 3}
"""Samples a pixel of the photometric interpretations BlackIsZero and RGB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """What a TIFF's first directory says of its samples.

    Attributes:
        width: Pixels across, as stored.
        height: Pixels down.
        bits: Of a sample.
        kind: 1 unsigned, 2 signed, 3 float; others are not defined, or complex.
        count: Samples a pixel.
        is_planar: Each channel is stored by itself.
        photometric: TIFF's code of what they mean.
        icc: Profile, if there is one.
    """

    width: int
    height: int
    bits: int
    kind: int
    count: int
    is_planar: bool
    photometric: int
    icc: bytes | None

    @property
    def are_floats_for_opencv(self) -> bool:
        """Floats that OpenCV reads and Pillow does not: of 64 bits, or of several channels."""
        is_known = self.kind == _FLOAT and self.bits in (32, 64) and not self.is_planar
        return is_known and _GRAY_OR_RGB.get(self.photometric) == self.count and (self.bits, self.count) != (32, 1)

    def __str__(self) -> str:
        kind = {_UNSIGNED: "unsigned", _SIGNED: "signed", _FLOAT: "float"}.get(self.kind, "complex")
        return f"TIFF of {self.count} x {self.bits}-bit {kind} samples, photometric interpretation {self.photometric}"


def read_samples(data: bytes) -> Samples:
    """The samples of a TIFF's first picture, by its tags.

    Raises:
        ImageError: ``truncated``; ``unsupported_format``, if their white is not known or no decoder reads them right.
        Exception: Whatever Pillow raises on broken tags.
    """
    tags = ImageFileDirectory_v2(data[:16] if data[2:3] == b"+" else data[:8])
    file = BytesIO(data)
    file.seek(tags.next)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", _CUT_OFF, UserWarning)  # Pillow goes on without the tags that are missing
        try:
            tags.load(file)
        except UserWarning as error:
            raise ImageError("truncated", f"TIFF of {len(data)} bytes whose directory ends after them") from error
    _check_strips(tags)
    samples = Samples(
        width=int(tags[256]),
        height=int(tags[257]),
        bits=max(tags.get(258, (1,))),
        kind=max(tags.get(339, (_UNSIGNED,))),
        count=int(tags.get(277, 1)),
        is_planar=tags.get(284) == _SEPARATE_PLANES,
        photometric=int(tags.get(262, 0)),
        icc=bytes(tags[34675]) if 34675 in tags else None,
    )
    if samples.kind == _SIGNED or (samples.kind == _UNSIGNED and samples.bits > 16):
        raise ImageError("unsupported_format", f"{samples}: nothing says which is white")
    if samples.bits > 8 and samples.count > 1 and samples.is_planar:
        raise ImageError("unsupported_format", f"{samples}, each channel by itself")  # Pillow mixes them up
    return samples


def _check_strips(tags: ImageFileDirectory_v2) -> None:
    """Refuse a picture whose strips end before its last row: Pillow leaves the rest black."""
    height = int(tags[257])
    rows = min(height, int(tags.get(278, height)))
    planes = int(tags.get(277, 1)) if tags.get(284) == _SEPARATE_PLANES else 1
    stated = planes * -(-height // max(1, rows))
    if 273 in tags and len(tags[273]) < stated:
        raise ImageError("truncated", f"TIFF of {height} rows, {stated} strips, that says where {len(tags[273])} are")


class FloatTiff:
    """A TIFF of floats for OpenCV, of which no pixel is decoded yet.

    Attributes:
        size: Width and height as stored.
    """

    def __init__(self, data: bytes, samples: Samples) -> None:
        self._data = data
        self._samples = samples
        self.size = samples.width, samples.height

    def decode(self) -> Image.Image:
        """The upright picture as gray or RGB of 8 bits, with its profile.

        Raises:
            ImageError: ``corrupt``; ``unsupported_format``, if nothing says which is white.
        """
        stored = cv2.imdecode(np.frombuffer(self._data, np.uint8), cv2.IMREAD_UNCHANGED)  # turns it upright, too
        values = self._samples.width * self._samples.height * self._samples.count
        if stored is None or stored.dtype.kind != "f" or stored.size != values:
            raise ImageError("corrupt", f"{self._samples}: cannot be decoded")
        image = Image.fromarray(float_levels(stored[..., ::-1] if stored.ndim == 3 else stored))
        image.info["icc_profile"] = self._samples.icc
        return image
