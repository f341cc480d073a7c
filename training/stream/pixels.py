"""Bytes to pixels: the header first, then exactly as much as is wanted."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from training.stream.example import SampleError
from training.stream.geometry import Bools, Pixels

MAX_PIXELS = 64_000_000
"""Pictures with more pixels are refused before any is decoded."""

_FORMATS = ("PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "JPEG")
_ORIENTATION = 0x0112
_SEGMENT = struct.Struct(">HH").unpack_from  # marker, and the length of what follows it
_APP0, _APP1, _APP15, _COMMENT = 0xFFE0, 0xFFE1, 0xFFEF, 0xFFFE
_BROKEN = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    SyntaxError,
    OverflowError,
    RuntimeError,
    UserWarning,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise at damaged files (13.0); it only warns of some damage, unless warnings are errors."""


class Header(NamedTuple):
    """What a picture's file says of it before it is decoded.

    Attributes:
        width: Of the upright picture, pixels.
        height: Likewise.
        orientation: How it comes out of its decoder, as EXIF counts: 1 is upright, 5 to 8 lie on their side.
        is_turbo: Whether libjpeg-turbo decodes it: a JPEG in gray or YCbCr; Pillow does the rest.
    """

    width: int
    height: int
    orientation: int
    is_turbo: bool


def use_one_thread() -> None:
    """Keep OpenCV from starting threads of its own, for the whole process: the stream has as many as it was told."""
    cv2.setNumThreads(1)


def read_header(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Header:
    """The header of a picture.

    Args:
        data: Its file.
        name: Named in errors.
        max_pixels: The most it may have.

    Raises:
        SampleError: ``bad_image`` if it is none, ``bomb`` if it has more pixels.
    """
    read = _jpeg_header if data.startswith(b"\xff\xd8") else _pillow_header
    return read(data, name, max_pixels)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise SampleError("bomb", f"{name}: {width} x {height} pixels, the limit is {max_pixels}")


def _jpeg_header(data: bytes, name: str, max_pixels: int) -> Header:
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        raise SampleError("bad_image", f"{name}: {error}") from None
    if colour not in ("YCbCr", "Gray"):  # how CMYK and YCCK become RGB is Adobe's matter, which Pillow knows
        return _pillow_header(data, name, max_pixels)
    _check_size(width, height, name, max_pixels)
    orientation = _pillow_header(data, name, max_pixels).orientation if _has_exif(data) else 1
    return Header(*_upright(width, height, orientation), orientation, is_turbo=True)


def _has_exif(jpeg: bytes) -> bool:
    """Whether EXIF is among what applications say, which precedes all else. Source: Exif 2.32, section 4.5.4."""
    place = 2
    with suppress(struct.error):
        marker, length = _SEGMENT(jpeg, place)
        while _APP0 <= marker <= _APP15 or marker == _COMMENT:
            if marker == _APP1 and jpeg.startswith(b"Exif\0\0", place + 4):
                return True
            place += 2 + length
            marker, length = _SEGMENT(jpeg, place)
    return False


def _pillow_header(data: bytes, name: str, max_pixels: int) -> Header:
    with _opened(data, name) as image:
        _check_size(*image.size, name, max_pixels)
        orientation = _orientation(image)
        return Header(*_upright(*image.size, orientation), orientation, is_turbo=False)


def _orientation(image: Image.Image) -> int:
    """As EXIF says, before any pixel; upright if it says nothing that makes sense."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would look for it behind the pixels
        return 1
    if image.format == "TIFF":  # Pillow turns these by itself, and its size is the upright one
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except _BROKEN:
        return 1
    return orientation if orientation in range(1, 9) else 1


@contextmanager
def _opened(data: bytes, name: str) -> Iterator[Image.Image]:
    """The picture as Pillow opens it, with no pixel decoded yet; what goes wrong with it is the sample's error."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            yield image
    except SampleError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SampleError("bomb", f"{name}: {error}") from None
    except UnidentifiedImageError:
        said = "it is of no format of pictures that is read here" if data else "it is empty"
        raise SampleError("bad_image", f"{name}: {said}") from None
    except _BROKEN as error:
        raise SampleError("bad_image", f"{name}: {error!r}") from None


def _upright(width: int, height: int, orientation: int) -> tuple[int, int]:
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def decode(
    data: bytes, header: Header, name: str, least: tuple[int, int] = (0, 0), out: Pixels | None = None
) -> Pixels:
    """The upright picture.

    Args:
        data: Its file.
        header: Of that file.
        name: Named in errors.
        least: Width and height that it will be shrunk to. A JPEG that is at least twice as large is decoded at 1/2,
            1/4 or 1/8 of its size, still no smaller than this; (0, 0): whole.
        out: Where to write it if it is decoded at just this size; otherwise left alone.

    Returns:
        The pixels: ``out`` itself if they are in there.

    Raises:
        SampleError: ``bad_image``: damaged, or cut short by as little as one byte.
    """
    if not header.is_turbo:
        return _pillow_pixels(data, name, header.orientation)
    width, height = _upright(*least, header.orientation)
    scaling = {"min_width": width, "min_height": height, "min_factor": 2.0} if width and height else {}
    is_direct = out is not None and header.orientation == 1 and out.shape == _decoded_shape(data, header, scaling)
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", buffer=out if is_direct else None, **scaling)
    except ValueError as error:
        raise SampleError("bad_image", f"{name}: {error}") from None
    return out if is_direct and out is not None else _turned(pixels, header.orientation)


def _decoded_shape(data: bytes, header: Header, scaling: dict[str, float]) -> tuple[int, int, int]:
    if not scaling or header.width < 2 * scaling["min_width"] or header.height < 2 * scaling["min_height"]:
        return header.height, header.width, 3
    height, width, _, _ = simplejpeg.decode_jpeg_header(data, **scaling)
    return height, width, 3


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """Upright pixels. Source: Exif 2.32, tag Orientation."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def decode_cutout(data: bytes, header: Header, name: str, fill: tuple[int, int, int]) -> tuple[Pixels, Bools] | None:
    """The upright picture on a colour, and where it is at least half opaque; ``None`` if it has no transparency.

    Raises:
        SampleError: As :func:`decode`.
    """
    with _opened(data, name) as image:
        if not image.has_transparency_data:
            return None
        image = image.convert("RGBA")
        opaque = np.asarray(image.getchannel("A").point(lambda value: 255 * (value >= 128)).convert("RGB"))
        pixels = np.asarray(_flat(image, fill))
    return _turned(pixels, header.orientation), _turned(opaque, header.orientation)[:, :, 0] > 0


def _pillow_pixels(data: bytes, name: str, orientation: int) -> Pixels:
    with _opened(data, name) as image:
        return _turned(np.array(_rgb(image)), orientation)


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB; what is transparent lies on white."""
    if image.mode == "F":
        raise ValueError("its pixels are floats, of which nobody says what white is")
    if image.mode.startswith("I"):  # 16 bits, of which Pillow would cut off the wrong end
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    return _flat(image.convert("RGBA"), (255, 255, 255))


def _flat(image: Image.Image, behind: tuple[int, int, int]) -> Image.Image:
    """RGB of RGBA on a colour."""
    return Image.alpha_composite(Image.new("RGBA", image.size, behind), image).convert("RGB")


def decode_mask(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> Bools:
    """The mask in a PNG: what is at least half white.

    Raises:
        SampleError: As :func:`read_header` and :func:`decode`.
    """
    with _opened(data, name) as image:
        _check_size(*image.size, name, max_pixels)
        return np.asarray(image if image.mode == "1" else image.convert("L").point(lambda value: value >= 128, "1"))
