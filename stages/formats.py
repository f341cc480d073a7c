"""What the bytes of a file say before any decoder sees them: its format, whether it is whole, how large it may be."""

import struct
import zlib
from collections.abc import Iterator, Mapping


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


_MAX_SAMPLE_BYTES = 4
"""Of ``max_pixels`` pixels; floats take four times as much while they become levels."""


def check_samples(size: int, max_pixels: int) -> None:
    """Refuse a picture by the bytes of its deep samples.

    Raises:
        ImageError: ``bomb``, if they are more than 4 for each of ``max_pixels``.
    """
    if size > max_pixels * _MAX_SAMPLE_BYTES:
        raise ImageError("bomb", f"{size:,} bytes of samples; at most 4 x max_pixels, {max_pixels}, are decoded")


def check_file(name: str, data: bytes, max_pixels: int) -> None:
    """Find what decoders overlook: a missing end, a wrong checksum, a canvas reserved before it is judged.

    Args:
        name: What ``format_of`` said.
        data: The file.
        max_pixels: Largest width times height.

    Raises:
        ImageError: ``truncated``, ``corrupt`` or ``bomb``.
    """
    if name == "JPEG":
        _check_jpeg(data)
    if name == "PNG":
        _check_png(data)
    if name == "WEBP":
        _check_webp(data, max_pixels)


_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0))
"""Markers that start a frame, by kind of coding. Source: ITU-T T.81, table B.1."""

_DECODED_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)
"""Baseline, extended and progressive; not lossless, nor hierarchical."""

_MAX_SCANS = 100
"""Each scan passes over the whole picture, however few bytes it has; encoders write about ten."""

_MAX_LARGE_SCANS = 20
"""Scans of a picture of ``max_pixels``: some seconds of work. Of one of a fifth of that, all 100."""


def _check_jpeg(data: bytes) -> None:
    if data.rfind(b"\xff\xd9") < 0:
        raise ImageError("truncated", f"JPEG of {len(data)} bytes without an end marker")
    for marker, body in _jpeg_segments(data):
        if marker in _FRAMES and (marker not in _DECODED_FRAMES or body[:1] not in (b"\x08", b"")):
            coding = f"marker 0xFF{marker:X}, {body[0] if body else '?'} bits"
            raise ImageError("unsupported_format", f"JPEG of a coding that is not opened: {coding}")
    if (scans := data.count(b"\xff\xda")) > _MAX_SCANS:
        raise ImageError("bomb", f"JPEG of {scans} scans; most that are decoded are {_MAX_SCANS}")


def check_scans(data: bytes, pixels: int, max_pixels: int) -> None:
    """Refuse a large JPEG by its scans.

    Raises:
        ImageError: ``bomb``, if they pass over more pixels in all than 20 scans of ``max_pixels``.
    """
    if pixels * _MAX_SCANS <= max_pixels * _MAX_LARGE_SCANS:
        return
    if (scans := data.count(b"\xff\xda")) * pixels > max_pixels * _MAX_LARGE_SCANS:
        raise ImageError("bomb", f"JPEG of {scans} scans of {pixels} pixels; max_pixels is {max_pixels}")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Markers before the first scan, with what they hold, as long as they follow each other."""
    start = 2
    while data[start : start + 1] == b"\xff" and start + 4 <= len(data):
        marker = data[start + 1]
        if marker == 0xFF:  # padding
            start += 1
            continue
        if marker == 0xDA:
            return
        stop = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
        yield marker, data[start + 4 : stop]
        start = stop


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of a PNG's whole chunks, in order.

    Raises:
        ImageError: ``corrupt``, at a critical chunk whose checksum is wrong.
    """
    view, start = memoryview(data), 8
    while start + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, start)
        kind, stop = data[start + 4 : start + 8], start + 12 + length
        if stop > len(data):
            return
        is_critical = not kind[0] & 32
        if is_critical and zlib.crc32(view[start + 4 : stop - 4]) != int.from_bytes(view[stop - 4 : stop], "big"):
            raise ImageError("corrupt", f"PNG chunk {kind!r} at byte {start} has a wrong checksum")
        yield kind, data[start + 8 : stop - 4]
        start = stop


def _check_png(data: bytes) -> None:
    for kind, _ in png_chunks(data):
        if kind == b"CgBI":
            raise ImageError("unsupported_format", "PNG in Apple's own form, as apps for the iPhone hold it")
        if kind == b"IEND":
            return
    raise ImageError("truncated", f"PNG of {len(data)} bytes without its IEND chunk")


_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples a pixel of each colour type. Source: PNG, third edition, section 11.2.1."""

_WHOLE = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row of each pass, and its steps. Source: likewise, section 8."""


def check_png_samples(data: bytes) -> None:
    """Find a PNG whose stream of samples ends properly and too soon: Pillow leaves the rest of the picture 0.

    Raises:
        ImageError: ``truncated``.
    """
    header = next(body for _, body in png_chunks(data))
    width, height, bits, colour, _, _, is_interlaced = struct.unpack_from(">IIBBBBB", header)
    stated = 0
    for left, top, right, down in _ADAM7 if is_interlaced else _WHOLE:
        columns, rows = max(0, -(-(width - left) // right)), max(0, -(-(height - top) // down))
        stated += rows * (1 + -(-columns * bits * _SAMPLES[colour] // 8)) if columns else 0
    if (size := _inflated(data, stated)) < stated:
        raise ImageError("truncated", f"PNG of {width} x {height} pixels, {stated} bytes of samples, that holds {size}")


def _inflated(data: bytes, most: int) -> int:
    """How many bytes a PNG's samples inflate to; counted up to ``most`` and little further."""
    inflater, size = zlib.decompressobj(), 0
    for kind, rest in png_chunks(data):
        while kind == b"IDAT" and rest and size < most:
            size += len(inflater.decompress(rest, 2**20))
            rest = inflater.unconsumed_tail
    return size


def _check_webp(data: bytes, max_pixels: int) -> None:
    stated = int.from_bytes(data[4:8], "little") + 8
    if stated > len(data):
        raise ImageError("truncated", f"WebP that says it has {stated} bytes, and has {len(data)}")
    if data[12:16] == b"VP8X":  # Pillow reserves this canvas, up to 16 GiB, when it opens the file
        width, height = (1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        check_size(width, height, max_pixels)


def webp_frame(data: bytes) -> tuple[int, int, int, int] | None:
    """Where the first frame of an animated WebP lies on its canvas: left, top, right, bottom, pixels; else ``None``.

    Source: WebP Container Specification, "Animation".
    """
    place = 12
    while place + 8 <= len(data):
        kind, size = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        if kind == b"ANMF":
            x, y, width, height = (
                int.from_bytes(data[at : at + 3], "little") for at in range(place + 8, place + 20, 3)
            )
            return 2 * x, 2 * y, 2 * x + width + 1, 2 * y + height + 1
        place += 8 + size + size % 2
    return None
