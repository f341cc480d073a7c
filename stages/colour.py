"""Colour of any image of Pillow's as 8-bit sRGB: profiles, deep samples, alpha."""

from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from stages.formats import ImageError

Levels: TypeAlias = npt.NDArray[np.uint8]
"""Levels, uint8, (height, width) or (height, width, channel)."""

_SRGB = ImageCms.createProfile("sRGB")

CODED_PROFILE = "coded_profile"
"""In an image's ``info``: a profile of RGB that counts before its ``icc_profile``, if it is gray too."""

_BASE_MODES: Mapping[str, str] = {"1": "L", "L": "L", "LA": "L", "CMYK": "CMYK"}

_PROBES: Mapping[str, npt.NDArray[np.uint8]] = {
    "L": np.arange(256, dtype=np.uint8)[None],
    "RGB": np.stack(np.meshgrid(*[np.arange(0, 256, 15, dtype=np.uint8)] * 3), -1).reshape(1, -1, 3),
}

_MAX_CLIPPED = 0.05
"""Ours. Highlights of rendered pictures are fewer; of floats up to 255 or 65535 nearly all are more than 1."""

_MOST_KEPT_BYTES = 2**20
"""Of a profile whose transform is kept; those of presses have up to 3 MB, made-up ones as much as a file may."""

_BITS_PER_SAMPLE = 258
_PHOTOMETRIC = 262  # TIFF 6.0: 0 is WhiteIsZero; Pillow turns 8-bit samples only


def to_srgb(image: Image.Image) -> Image.Image:
    """A loaded image of any mode as opaque RGB in sRGB.

    A profile is followed, unless it is unusable or of another colour space than the image: then, and without one, the
    image is taken for sRGB. Alpha is laid over white. 12 and 16-bit samples are scaled by their white, floats by 1.

    Raises:
        ImageError: ``unsupported_format``, if nothing says which is white: samples are 32-bit integers, or floats of
            which many lie outside 0 to 1. ``corrupt``, if a palette is missing.
    """
    if image.mode in ("P", "PA") and image.palette is None:
        raise ImageError("corrupt", "samples are places in a palette, and there is none")
    coded = image.info.get(CODED_PROFILE)
    icc = coded or image.info.get("icc_profile")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        image = Image.fromarray(_eight_bits(image))
    base = "RGB" if coded else _BASE_MODES.get(image.mode, "RGB")
    if not image.has_transparency_data:
        return _from_profile(image.convert(base), icc)
    image = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(_from_profile(image.convert(base), icc), mask=image.getchannel("A"))
    return white


def _from_profile(image: Image.Image, icc: bytes | None) -> Image.Image:
    transform = srgb_transform(icc, image.mode) if icc else None
    if transform is None:
        return image.convert("RGB")
    return transform.apply(image)


def _eight_bits(image: Image.Image) -> Levels:
    if image.mode == "I":
        raise ImageError("unsupported_format", "samples are 32-bit integers, and nothing says which is white")
    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image)
    bits: int = tags.get(_BITS_PER_SAMPLE, (16,))[0]
    levels = float_levels(values) if image.mode == "F" else _levels(values / (2**bits - 1))
    if tags.get(_PHOTOMETRIC) == 0:
        levels = 255 - levels
    key = image.info.get("transparency")
    if isinstance(key, int):
        levels[values == key] = 255
    return levels


def float_levels(values: npt.NDArray[np.floating]) -> Levels:
    """Floats, whose white is 1, as 8-bit levels; highlights above and the like are clipped.

    Raises:
        ImageError: ``unsupported_format``, if so many lie elsewhere that white must be another number.
    """
    outside = 1 - np.mean((values >= 0) & (values <= 1))
    if outside > _MAX_CLIPPED:
        raise ImageError("unsupported_format", f"{outside:.0%} of the floats lie outside 0 to 1: which is white?")
    return _levels(np.clip(np.nan_to_num(values), 0, 1))


def _levels(shares: npt.NDArray[np.floating]) -> Levels:
    levels: Levels = np.rint(255 * shares).astype(np.uint8)
    return levels


def srgb_transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """What takes an image of mode L, RGB or CMYK with this profile to sRGB.

    ``None`` if nothing does: the profile is unusable, or is sRGB itself within 2 of 255 on a grid of colours.
    """
    return (_kept_transform if len(icc) <= _MOST_KEPT_BYTES else _transform)(icc, mode)


def _transform(icc: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(icc))
        flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
        transform = ImageCms.buildTransform(profile, _SRGB, mode, "RGB", flags=flags)
    except (ImageCms.PyCMSError, OSError):
        return None
    if mode not in _PROBES:
        return transform
    probe = Image.fromarray(_PROBES[mode])
    shift = np.asarray(transform.apply(probe), np.int16) - np.asarray(probe.convert("RGB"))
    return transform if np.abs(shift).max() > 2 else None


_kept_transform = lru_cache(maxsize=64)(_transform)
"""The web has few profiles, and building a transform costs as much as decoding a picture."""
