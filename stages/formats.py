"""What the bytes of a file say before any decoder sees them: its format, whether it is whole, how large it may be."""

import struct
import zlib
from collections.abc import Mapping


class ImageError(ValueError):
    """Bytes that give no picture.

    Attributes:
        reason: ``not_an_image``, ``unsupported_format``, ``bomb``, ``truncated`` or ``corrupt``.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_OPENED: Mapping[bytes, str] = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}

_REFUSED: Mapping[bytes, str] = {
    b"\0\0\1\0": "an icon (ICO)",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "a Photoshop document",
    b"%!PS": "PostScript",
    b"%PDF": "a PDF document",
}


def format_of(data: bytes) -> str:
    """Pillow's name of the format: JPEG, PNG, GIF, BMP, TIFF, WEBP or AVIF.

    Raises:
        ImageError: If it is no image, or of a format that is not opened; the message says what it looks like.
    """
    for magic, name in _OPENED.items():
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP"
    if data[4:8] == b"ftyp":
        brands = data[8 : int.from_bytes(data[:4], "big")]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        raise ImageError("unsupported_format", f"ISO media of brand {data[8:12]!r}, such as HEIC or a video")
    for magic, name in _REFUSED.items():
        if data.startswith(magic):
            raise ImageError("unsupported_format", f"{name}; JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF are opened")
    raise ImageError("not_an_image", _look(data))


def _look(data: bytes) -> str:
    start = data[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not data:
        return "the file is empty"
    if b"<svg" in start:
        return "looks like SVG"
    if start.startswith((b"<!doctype html", b"<html")):
        return f"looks like HTML: {data[:80]!r}"
    return f"{len(data)} bytes that begin with {data[:40]!r}"


def check_size(width: int, height: int, max_pixels: int) -> None:
    """Refuse a picture by its size.

    Raises:
        ImageError: ``bomb``, if it has more than ``max_pixels``.
    """
    if width * height > max_pixels:
        raise ImageError("bomb", f"{width} x {height} pixels are more than max_pixels, {max_pixels}")


def check_file(name: str, data: bytes, max_pixels: int) -> None:
    """Find what decoders overlook: a missing end, a wrong checksum, a canvas reserved before it is judged.

    Args:
        name: What ``format_of`` said.
        data: The file.
        max_pixels: Largest width times height.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``bomb``.
    """
    if name == "JPEG" and data.rfind(b"\xff\xd9") < 0:
        raise ImageError("truncated", f"JPEG of {len(data)} bytes without an end marker")
    if name == "PNG":
        _check_png(data)
    if name == "WEBP":
        _check_webp(data, max_pixels)


def _check_png(data: bytes) -> None:
    view, start = memoryview(data), 8
    while start + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        kind, stop = data[start + 4 : start + 8], start + 12 + length
        if stop > len(data):
            break
        is_critical = not kind[0] & 32
        if is_critical and zlib.crc32(view[start + 4 : stop - 4]) != int.from_bytes(view[stop - 4 : stop], "big"):
            raise ImageError("corrupt", f"PNG chunk {kind!r} at byte {start} has a wrong checksum")
        if kind == b"IEND":
            return
        start = stop
    raise ImageError("truncated", f"PNG of {len(data)} bytes without its IEND chunk")


def _check_webp(data: bytes, max_pixels: int) -> None:
    stated = int.from_bytes(data[4:8], "little") + 8
    if stated > len(data):
        raise ImageError("truncated", f"WebP that says it has {stated} bytes, and has {len(data)}")
    if data[12:16] == b"VP8X":  # Pillow reserves this canvas, up to 16 GiB, when it opens the file
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        check_size(width, height, max_pixels)
