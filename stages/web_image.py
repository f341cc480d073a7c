"""Any image of the web as upright 8-bit sRGB."""

import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile

from stages.coding import coded_profile
from stages.colour import CODED_PROFILE, srgb_transform, to_srgb
from stages.formats import (
    ImageError,
    check_file,
    check_png_samples,
    check_samples,
    check_scans,
    check_size,
    format_of,
    webp_frame,
)
from stages.pixels import Pixels, read_only
from stages.tiff import FloatTiff, read_samples


def open_image(data: bytes, max_pixels: int) -> Pixels:
    """Any web image as upright 8-bit sRGB at full size, read-only; see :class:`WebImage`.

    Raises:
        ImageError: If it gives no picture.
    """
    return _open_image(data, max_pixels)


@lru_cache(maxsize=2)  # the subjects of a record are cut from one original
def _open_image(data: bytes, max_pixels: int) -> Pixels:
    return WebImage(data, max_pixels).decode().pixels


_TURNS: Mapping[int, Callable[[Pixels], Pixels]] = {
    1: lambda pixels: pixels,
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""What makes a picture of each orientation upright. Source: EXIF 2.32, tag 274."""

_ORIENTATION = 274
_PNG_DEPTH = 24
"""Where a PNG says how many bits its samples have: right after its size."""

_HARMLESS = re.compile(r"Corrupt JPEG data: \d+ extraneous bytes before marker 0x(?!d[0-7])")
"""Padding before a segment, as some cameras write it; before a restart marker it would be lost samples."""

_PYTHON_ERRORS = (OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, RuntimeError)
_BROKEN = (*_PYTHON_ERRORS, struct.error, zlib.error)
"""What Pillow's readers raise on broken files; found by mutating files of every format."""


@dataclass(frozen=True, slots=True)
class Upright:
    """A decoded web image.

    Attributes:
        pixels: Upright and read-only; fewer than ``width`` x ``height`` if a smaller picture was asked for.
        width: Pixels across the upright original.
        height: Pixels down the upright original.
    """

    pixels: Pixels
    width: int
    height: int


class WebImage:
    """A JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF file whose header has been read and judged, and no pixel decoded.

    It decodes to its first frame, turned as EXIF says, its colour as :func:`stages.colour.to_srgb` says. A file that
    ends early gives no picture, however little is missing (of a GIF, what follows its first frame is not looked at).
    Damage inside is found where the format tells: by PNG's checksums, and where the coding of the others breaks.

    Attributes:
        width: Pixels across as stored, before any turn.
        height: Pixels down as stored.
    """

    def __init__(self, data: bytes, max_pixels: int) -> None:
        """Read and judge the header.

        Args:
            data: The file.
            max_pixels: Largest width times height. Pillow's own limit, 178,956,970, stands above it.

        Raises:
            ImageError: If it is no image, of another format, too large, or broken at once.
        """
        self._data = data
        self._format = format_of(data)
        check_file(self._format, data, max_pixels)
        self._image: Image.Image | FloatTiff = self._open(max_pixels)
        self.width, self.height = self._image.size
        check_size(self.width, self.height, max_pixels)
        if self._format == "JPEG":
            check_scans(data, self.width * self.height, max_pixels)

    def _open(self, max_pixels: int) -> Image.Image | FloatTiff:
        with _reading(self._format):
            samples = read_samples(self._data) if self._format == "TIFF" else None
            if samples and samples.are_floats_for_opencv:
                check_size(samples.width, samples.height, max_pixels)
                check_samples(samples.width * samples.height * samples.count * samples.bits // 8, max_pixels)
                return FloatTiff(self._data, samples)
            try:
                return Image.open(BytesIO(self._data), formats=[self._format])
            except UnidentifiedImageError as error:
                if samples is None:
                    raise
                raise ImageError("unsupported_format", str(samples)) from error

    def decode(self, long_side: float | None = None) -> Upright:
        """Decode and turn upright.

        Args:
            long_side: If given, a JPEG is shrunk while it is decoded, by 2 or more, to no less than this many pixels
                on its longer side; that saves much of the work of a large one.

        Raises:
            ImageError: If it is truncated or corrupt.
        """
        image = self._image if isinstance(self._image, Image.Image) else self._image.decode()
        samples = self._jpeg_samples(image.mode, long_side) if self._format == "JPEG" else None
        pixels = self._pixels(image) if samples is None else _jpeg_pixels(samples, image)
        orientation = self._orientation(image)
        upright = read_only(np.ascontiguousarray(_TURNS[orientation](pixels)))
        size = image.size  # read after decoding, as Pillow turns a TIFF by itself
        width, height = size if orientation < 5 else size[::-1]
        return Upright(upright, width, height)

    def _pixels(self, image: Image.Image) -> Pixels:
        self._say_colours(image)
        frame = self._first_frame(image)
        with _reading(self._format):
            image.load()
        if self._format == "PNG" and (image.info.get("interlace") or _ends_black(image)):
            check_png_samples(self._data)
        pixels = np.asarray(to_srgb(image))
        return pixels if frame is None else _on_white(pixels, frame)

    def _first_frame(self, image: Image.Image) -> tuple[int, int, int, int] | None:
        """Where an animation's first frame lies; ``None`` if it is everywhere."""
        if isinstance(image, GifImageFile) and image.tile:
            return image.tile[0].extents
        return webp_frame(self._data) if self._format == "WEBP" else None

    def _say_colours(self, image: Image.Image) -> None:
        """Set what Pillow does not read: a profile in other words; a transparent colour as the 8 bits it reads."""
        image.info[CODED_PROFILE] = coded_profile(self._format, self._data, bool(image.info.get("icc_profile")))
        if self._format == "PNG" and "transparency" in image.info:
            image.info["transparency"] = _as_levels(image.info["transparency"], self._data[_PNG_DEPTH], image.mode)

    def _jpeg_samples(self, mode: str, long_side: float | None) -> npt.NDArray[np.uint8] | None:
        """Samples in the file's colour space, (height, width, channel); none if TurboJPEG's interface can't."""
        scale = min(1.0, (long_side or np.inf) / max(self.width, self.height))
        try:
            return np.asarray(
                simplejpeg.decode_jpeg(
                    self._data,
                    "GRAY" if mode == "L" else mode,
                    min_width=round(self.width * scale),
                    min_height=round(self.height * scale),
                    min_factor=2 if scale < 1 else 1,
                )
            )
        except ValueError as error:
            if "remature end" in str(error):
                raise ImageError("truncated", f"JPEG of {len(self._data)} bytes: {error}") from error
            if str(error).startswith("Corrupt JPEG data") and not _HARMLESS.match(str(error)):
                raise ImageError("corrupt", str(error)) from error
            return None

    def _orientation(self, image: Image.Image) -> int:
        try:
            with _reading(self._format):
                value = image.getexif().get(_ORIENTATION)
        except ImageError:
            return 1
        return value if isinstance(value, int) and value in _TURNS else 1


def _ends_black(image: Image.Image) -> bool:
    """Whether all samples of the last row are 0."""
    return image.crop((0, image.height - 1, *image.size)).getbbox(alpha_only=False) is None


def _as_levels(key: object, bits: int, mode: str) -> object:
    """A PNG's transparent colour, which is in samples of its own, as levels of the mode in which Pillow reads it."""
    if isinstance(key, tuple) and bits == 16:
        return tuple(value >> 8 for value in key)
    if isinstance(key, int) and bits < 8 and mode in ("1", "L"):
        return key * 255 // (2**bits - 1)
    return key


def _on_white(pixels: Pixels, frame: tuple[int, int, int, int]) -> Pixels:
    """An animation's frame on the screen around it, which browsers leave transparent and Pillow fills with a colour."""
    left, top, right, bottom = frame
    screen = np.full_like(pixels, 255)
    screen[top:bottom, left:right] = pixels[top:bottom, left:right]
    return screen


def _jpeg_pixels(samples: npt.NDArray[np.uint8], header: Image.Image) -> Pixels:
    icc = header.info.get("icc_profile")
    if header.mode != "CMYK" and (not icc or srgb_transform(icc, header.mode) is None):
        return samples if header.mode == "RGB" else samples.repeat(3, axis=2)
    stored = "CMYK;I" if header.mode == "CMYK" else header.mode  # CMYK JPEGs are inverted, as Adobe began
    image = Image.frombytes(header.mode, samples.shape[1::-1], samples.tobytes(), "raw", stored)
    image.info["icc_profile"] = icc
    return np.asarray(to_srgb(image))


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn the many ways in which Pillow says that a file is broken into one, and hush its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageError("bomb", str(error)) from error
        except UnidentifiedImageError as error:
            raise ImageError("corrupt", f"{name} whose header cannot be read") from error
        except _BROKEN as error:
            reason = "truncated" if "truncated" in str(error).lower() else "corrupt"
            raise ImageError(reason, f"{name}: {error}") from error
