"""Encoding a view as the web would serve it: mostly JPEG, and of every other kind some."""

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw

_ORIENTATION = 274
"""EXIF tag."""
_TURNED_LEFT = 6
"""Orientation of a picture that is stored turned left, and shown turned right again."""


def jpeg(image: Image.Image) -> bytes:
    """Baseline JPEG, gray if the image is."""
    return _save(image, "JPEG", quality=90)


def progressive(image: Image.Image) -> bytes:
    """Progressive JPEG."""
    return _save(image, "JPEG", quality=85, progressive=True)


def rotated(image: Image.Image) -> bytes:
    """JPEG stored lying on its side, with the EXIF orientation that puts it upright."""
    exif = Image.Exif()
    exif[_ORIENTATION] = _TURNED_LEFT
    return _save(image.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=90, exif=exif)


def cmyk(image: Image.Image) -> bytes:
    """JPEG in printer's colours."""
    return _save(image.convert("CMYK"), "JPEG", quality=90)


def png(image: Image.Image) -> bytes:
    """PNG."""
    return _save(image, "PNG", compress_level=1)


def alpha(image: Image.Image) -> bytes:
    """PNG with an alpha channel: rounded corners."""
    mask = Image.new("L", image.size, 0)
    box = (0, 0, image.width - 1, image.height - 1)
    ImageDraw.Draw(mask).rounded_rectangle(box, min(image.size) // 10, fill=255)
    image = image.convert("RGB")
    image.putalpha(mask)
    return _save(image, "PNG", compress_level=1)


def gif(image: Image.Image) -> bytes:
    """GIF of 256 colours."""
    return _save(image.convert("RGB").quantize(), "GIF")


def webp(image: Image.Image) -> bytes:
    """Lossy WebP."""
    return _save(image.convert("RGB"), "WEBP", quality=85, method=2)


Encoder = Callable[[Image.Image], bytes]

SUFFIXES: Mapping[Encoder, str] = {
    jpeg: "jpg",
    progressive: "jpg",
    rotated: "jpg",
    cmyk: "jpg",
    png: "png",
    alpha: "png",
    gif: "gif",
    webp: "webp",
}
"""Encoder -> how its files' names end."""

_RARE: Mapping[int, Encoder] = {11: rotated, 31: alpha, 51: gif, 71: cmyk}
_OFTEN: Mapping[int, Encoder] = {3: png, 5: progressive, 7: webp}


def encoder_of(number: int) -> Encoder:
    """How the row of this number is encoded: seven of ten are baseline JPEG, and a rare kind comes every 100 rows."""
    return _RARE.get(number % 100) or _OFTEN.get(number % 10) or jpeg


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
