"""Reference images from files, shown to a family as the stream shows it those of training."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.generate.compose import Look
from training.stream.example import SampleError
from training.stream.geometry import Bools, Pixels, fitted, pad, resize
from training.stream.pixels import decode, decode_cutout, read_header

_REMEDIES: Mapping[str, str] = {
    "bomb": "shrink it first",
    "bad_image": "it must be a whole JPEG, PNG, WebP, AVIF, GIF, TIFF or BMP",
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A reference image.

    Attributes:
        name: Its file, as it was given.
        sha256: Of its file, hex.
        pixels: As a family is shown it.
    """

    name: str
    sha256: str
    pixels: Pixels

    def facts(self) -> dict[str, str]:
        """What it was read from, as JSON values."""
        return {"file": self.name, "sha256": self.sha256}


def read_picture(path: Path, look: Look) -> Picture:
    """A reference image from a file of any format of the web, made upright and squared.

    One with transparency is a cut-out, as the engine makes them: its alpha is its mask, the rest is filled, and what is
    outside the mask's box is cut away.

    Args:
        path: The file.
        look: The side of its square, and the colour of the rest.

    Raises:
        ValueError: If it is no picture, has more than 64 million pixels, or shows nothing; the message names the file.
        OSError: If it can't be read.
    """
    data = path.read_bytes()
    try:
        pixels = _decode(data, str(path), look)
    except SampleError as error:
        raise ValueError(f"{error}; {_REMEDIES[error.reason]}") from None
    return Picture(str(path), hashlib.sha256(data).hexdigest(), pixels)


def _decode(data: bytes, name: str, look: Look) -> Pixels:
    header = read_header(data, name)
    cutout = None if header.is_turbo else decode_cutout(data, header, name, look.fill)
    if cutout is not None:
        return _squared(_cut(*cutout, name), look)
    least = fitted(header.width, header.height, look.side) if look.side else (0, 0)
    return _squared(decode(data, header, name, least), look)


def _cut(pixels: Pixels, mask: Bools, name: str) -> Pixels:
    """What is in the mask's box."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        raise ValueError(f"{name}: it is transparent everywhere, so that it shows nothing; its alpha is its mask")
    return pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _squared(pixels: Pixels, look: Look) -> Pixels:
    if look.side is None:
        return np.ascontiguousarray(pixels)
    resized = resize(pixels, *fitted(pixels.shape[1], pixels.shape[0], look.side))
    return np.ascontiguousarray(pad(resized, look.side, look.fill))
