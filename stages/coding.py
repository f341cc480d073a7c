"""What files say of their colours without an ICC profile: PNG's chunks and AVIF's box."""

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache

from stages.formats import ImageError, png_chunks
from stages.profile import SRGB_CURVE, Encoding, gamma_curve, rgb_profile

_D65 = (0.3127, 0.3290)

_PRIMARIES: Mapping[int, tuple[tuple[float, float], ...]] = {
    1: (_D65, (0.64, 0.33), (0.30, 0.60), (0.15, 0.06)),  # BT.709 and sRGB
    4: ((0.310, 0.316), (0.67, 0.33), (0.21, 0.71), (0.14, 0.08)),  # BT.470 M
    5: (_D65, (0.64, 0.33), (0.29, 0.60), (0.15, 0.06)),  # BT.601, 625 lines
    6: (_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),  # BT.601, 525 lines
    7: (_D65, (0.630, 0.340), (0.310, 0.595), (0.155, 0.070)),  # SMPTE 240M
    9: (_D65, (0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),  # BT.2020
    11: ((0.314, 0.351), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # DCI-P3
    12: (_D65, (0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),  # Display P3
}
"""Chromaticities of white, red, green and blue by code. Source: ITU-T H.273, table 2."""

_CURVES: Mapping[int, tuple[float, float, float, float, float]] = {
    4: gamma_curve(2.2),
    5: gamma_curve(2.8),
    8: gamma_curve(1.0),
    17: gamma_curve(2.6),
}
"""Curves by code; any other is sRGB's, BT.709's too, whose displays don't undo its cameras. Source: H.273, table 3."""

_HIGH_RANGE: Mapping[int, str] = {16: "PQ", 18: "HLG"}

_NEAR_SRGB = 0.05
"""A gamma that differs from 1 / 2.2 by less, as a share, means sRGB's curve; libpng's PNG_GAMMA_THRESHOLD."""


def coded_profile(form: str, data: bytes, has_icc: bool) -> bytes | None:
    """An ICC profile of RGB for a picture whose file says otherwise what its numbers mean; of gray ones too.

    None, if the file does not, or if its own ICC profile counts before: of a PNG's words cICP counts first, then iCCP,
    sRGB, and gAMA with cHRM; of an AVIF's a profile, then code points.

    Args:
        form: What ``format_of`` said.
        data: The file.
        has_icc: It has an ICC profile.

    Raises:
        ImageError: ``unsupported_format``, if it is of high dynamic range, or of video's narrow range.

    Source: PNG, third edition, 4.3; ISO/IEC 14496-12, 12.1.5.
    """
    if form == "PNG":
        return _png_profile(_color_chunks(data), has_icc)
    if form == "AVIF" and not has_icc and (codes := _nclx(data)):
        return _profile_of_codes(*codes)
    return None


def _color_chunks(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for kind, body in png_chunks(data):
        if kind in (b"IDAT", b"IEND"):
            break
        found.setdefault(kind, body)
    return found


def _png_profile(chunks: Mapping[bytes, bytes], has_icc: bool) -> bytes | None:
    if len(codes := chunks.get(b"cICP", b"")) == 4:
        if not codes[3]:
            raise ImageError("unsupported_format", "PNG of video's narrow range")
        return _profile_of_codes(codes[0], codes[1])
    if has_icc or b"sRGB" in chunks or len(chunks.get(b"gAMA", b"")) != 4:
        return None
    gamma = int.from_bytes(chunks[b"gAMA"], "big") / 100_000
    return _profile_of_gamma(gamma, chunks.get(b"cHRM", b""))


@lru_cache(maxsize=64)
def _profile_of_gamma(gamma: float, chromaticities: bytes) -> bytes | None:
    """A profile of light = value^(1 / gamma); none if no such thing exists."""
    if not 0.1 <= gamma <= 10:
        return None
    numbers = struct.unpack(">8I", chromaticities) if len(chromaticities) == 32 else ()
    points = tuple((x / 100_000, y / 100_000) for x, y in zip(numbers[::2], numbers[1::2], strict=True))
    curve = SRGB_CURVE if abs(gamma * 2.2 - 1) < _NEAR_SRGB else gamma_curve(1 / gamma)
    try:
        return rgb_profile(Encoding(points or _PRIMARIES[1], curve))
    except ValueError:
        return None


@lru_cache(maxsize=64)
def _profile_of_codes(primaries: int, transfer: int) -> bytes:
    if name := _HIGH_RANGE.get(transfer):
        raise ImageError("unsupported_format", f"high dynamic range ({name}), whose tones no 8-bit sRGB holds")
    return rgb_profile(Encoding(_PRIMARIES.get(primaries, _PRIMARIES[1]), _CURVES.get(transfer, SRGB_CURVE)))


_PATH = (b"meta", b"iprp", b"ipco", b"colr")


def _nclx(data: bytes) -> tuple[int, int] | None:
    """Code points of primaries and transfer in the first ``colr`` box of an AVIF's properties that has any."""
    bodies = [data]
    for name in _PATH:
        bodies = [body for parent in bodies for kind, body in _boxes(parent) if kind == name]
        if name == b"meta":  # has a version and flags first
            bodies = [body[4:] for body in bodies]
    for body in bodies:
        if body.startswith(b"nclx") and len(body) >= 8:
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return primaries, transfer
    return None


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= len(data):
            size, head = int.from_bytes(data[start + 8 : start + 16], "big"), 16
        stop = start + size if size else len(data)
        if size and size < head:
            return
        yield kind, data[start + head : stop]
        start = stop
