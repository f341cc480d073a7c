"""Image files written by hand or by tifffile, so that no decoder of ours says what they hold."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

GRAY, RGB, PALETTE, GRAY_ALPHA, RGB_ALPHA = 0, 2, 3, 4, 6
"""PNG's colour types."""


def png(samples: npt.NDArray[Any], color: int, bits: int, *extras: tuple[bytes, bytes]) -> bytes:
    """A PNG of samples, (height, width, channel) or (height, width), with more chunks before the pixels."""
    height, width = samples.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    rows = b"".join(b"\0" + _packed(row, bits) for row in samples)
    chunks = [(b"IHDR", header), *extras, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def _packed(row: npt.NDArray[Any], bits: int) -> bytes:
    if bits >= 8:
        return row.astype(f">u{bits // 8}").tobytes()
    return np.packbits(np.unpackbits(row.astype(np.uint8)[:, None], axis=1)[:, 8 - bits :]).tobytes()


def tiff(samples: npt.NDArray[Any], **options: Any) -> bytes:
    """A TIFF as tifffile writes it."""
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def gif(screen: tuple[int, int], frame: npt.NDArray[np.uint8], left: int, top: int, *, key: int | None = None) -> bytes:
    """A GIF of one frame on a screen of width and height, whose palette is :func:`gif_palette`; ``key`` is clear."""
    height, width = frame.shape
    control = b"" if key is None else b"\x21\xf9\x04" + struct.pack("<BHB", 1, 0, key) + b"\0"
    codes = [code for start in range(0, frame.size, 100) for code in (256, *frame.ravel()[start : start + 100])]
    number = sum(int(code) << (9 * place) for place, code in enumerate([*codes, 257]))
    packed = number.to_bytes((9 * len(codes) + 16) // 8, "little")
    blocks = [packed[start : start + 255] for start in range(0, len(packed), 255)]
    return (
        b"GIF89a"
        + struct.pack("<HHBBB", *screen, 0xF7, 0, 0)
        + gif_palette().tobytes()
        + control
        + b"\x2c"
        + struct.pack("<HHHHBB", left, top, width, height, 0, 8)
        + b"".join(bytes([len(block)]) + block for block in blocks)
        + b"\0\x3b"
    )


def gif_palette() -> npt.NDArray[np.uint8]:
    """256 colours, of which the first, which is the background's, is dark."""
    palette = np.random.default_rng(3).integers(0, 256, (256, 3), dtype=np.uint8)
    palette[0] = (10, 20, 30)
    return palette
