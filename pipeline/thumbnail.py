"""Small pictures of rejected records, for the people who look at why."""

from manifests.record import Record
from stages.formats import ImageError
from stages.pixels import Pixels, read_picture, resize, write_jpeg
from stages.web_image import open_image

_SIDE = 160
_QUALITY = 75
_MAX_PIXELS = 64_000_000


def thumbnail(record: Record) -> bytes | None:
    """A JPEG of at most 160 pixels a side, or nothing where no picture can be read."""
    pixels = _pixels(record)
    if pixels is None:
        return None
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    small = resize(pixels, max(1, round(width * scale)), max(1, round(height * scale)))
    return write_jpeg(small, _QUALITY).data


def _pixels(record: Record) -> Pixels | None:
    if record.image is not None:
        return read_picture(record.image)
    if record.original is None:
        return None
    try:
        return open_image(record.original, _MAX_PIXELS)
    except ImageError:
        return None
