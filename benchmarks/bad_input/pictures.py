"""Files whose pixels are known, each of another scene, and files that are no pictures."""

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from stages.profile import SRGB_CURVE, Encoding, rgb_profile

WIDTH, HEIGHT = 320, 240

Scene = npt.NDArray[np.float64]
"""RGB from 0 to 1 in sRGB, (height, width, 3)."""


@dataclass(frozen=True, slots=True)
class File:
    """A file, and the 8-bit RGB that it shows; none if it shows nothing fit to keep."""

    data: bytes
    pixels: npt.NDArray[np.uint8] | None = None


def scene(seed: int) -> Scene:
    """Soft clouds of colour that fill the range, differ from seed to seed and have no symmetry."""
    coarse = np.random.default_rng(seed).random((5, 7, 3))
    smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    return np.asarray((smooth - smooth.min()) / (smooth.max() - smooth.min()))


def levels(values: Scene) -> npt.NDArray[np.uint8]:
    """The scene in 8 bits."""
    return np.asarray(np.rint(255 * np.clip(values, 0, 1)), np.uint8)


def _save(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _encode(suffix: str, values: npt.NDArray[Any]) -> bytes:
    """By OpenCV, which writes deep samples."""
    done, data = cv2.imencode(suffix, values[..., ::-1] if values.ndim == 3 else values)
    if not done:
        raise RuntimeError(f"OpenCV cannot write {suffix}")
    return data.tobytes()


def jpeg(values: Scene) -> File:
    """An ordinary JPEG."""
    pixels = levels(values)
    return File(_save(Image.fromarray(pixels), "JPEG", quality=95, subsampling=0), pixels)


def _deep_rgb(values: Scene) -> File:
    return File(_encode(".png", np.rint(65535 * values).astype(np.uint16)), levels(values))


def _gray(values: Scene) -> Scene:
    return np.asarray(values[..., :1].repeat(3, axis=2))


def _deep_gray(values: Scene) -> File:
    return File(_encode(".png", np.rint(65535 * values[..., 0]).astype(np.uint16)), levels(_gray(values)))


def _float_rgb(values: Scene) -> File:
    return File(_encode(".tiff", values.astype(np.float32)), levels(values))


def _float_gray(values: Scene) -> File:
    return File(_save(Image.fromarray(values[..., 0].astype(np.float32)), "TIFF"), levels(_gray(values)))


def _rotated(values: Scene) -> File:
    pixels = levels(values)
    exif = Image.Exif()
    exif[274] = 6  # to be turned a quarter clockwise
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(pixels)))
    return File(_save(stored, "JPEG", quality=95, subsampling=0, exif=exif.tobytes()), pixels)


def _cmyk(values: Scene) -> File:
    pixels = levels(values)
    inks = np.dstack([255 - pixels, np.zeros(pixels.shape[:2], np.uint8)])
    return File(_save(Image.fromarray(inks, "CMYK"), "JPEG", quality=95, subsampling=0), pixels)


def _over_white(values: Scene, alpha: Scene) -> npt.NDArray[np.uint8]:
    return levels(values * alpha + 1 - alpha)


def _palette_alpha(values: Scene) -> File:
    image = Image.fromarray(levels(values)).quantize(128)
    alpha = np.linspace(0, 255, 128).astype(np.uint8)
    colours = np.asarray(image.convert("RGB")) / 255
    shares = alpha[np.asarray(image)][..., None] / 255
    return File(_save(image, "PNG", transparency=alpha.tobytes()), _over_white(colours, shares))


def _gray_alpha(values: Scene) -> File:
    samples = levels(values)[..., :2]
    gray, alpha = samples[..., :1] / 255, samples[..., 1:] / 255
    return File(_save(Image.fromarray(samples, "LA"), "PNG"), _over_white(gray.repeat(3, axis=2), alpha))


def _animated_gif(values: Scene) -> File:
    image = Image.fromarray(levels(values)).quantize(256, dither=Image.Dither.NONE)
    data = _save(image, "GIF", save_all=True, append_images=[Image.new("RGB", image.size, "red")], duration=100)
    return File(data, np.asarray(image.convert("RGB")))


def _animated_webp(values: Scene) -> File:
    pixels = levels(values)
    more = [Image.new("RGB", (WIDTH, HEIGHT), "red")]
    return File(_save(Image.fromarray(pixels), "WEBP", lossless=True, save_all=True, append_images=more), pixels)


def _webp(values: Scene) -> File:
    pixels = levels(values)
    return File(_save(Image.fromarray(pixels), "WEBP", quality=95), pixels)


def _avif(values: Scene) -> File:
    pixels = levels(values)
    return File(_save(Image.fromarray(pixels), "AVIF", quality=95, subsampling="4:4:4"), pixels)


def _bilevel(values: Scene) -> File:
    bits = values[..., 0] > 0.5
    pixels = np.where(bits[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
    return File(_save(Image.fromarray(bits), "PNG"), pixels)


_P3 = ((0.3127, 0.3290), (0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
_P3_TO_SRGB = np.array([[1.2249, -0.2247, 0], [-0.0420, 1.0419, 0], [-0.0197, -0.0786, 1.0979]])
"""Linear light to linear light. Source: CSS Color Module, level 4."""


def _to_light(values: Scene) -> Scene:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def _from_light(light: Scene) -> Scene:
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def _display_p3(values: Scene) -> File:
    profile = rgb_profile(Encoding(_P3, SRGB_CURVE))
    image = Image.fromarray(levels(values))
    shown = levels(_from_light(_to_light(values) @ _P3_TO_SRGB.T))
    return File(_save(image, "JPEG", quality=95, subsampling=0, icc_profile=profile), shown)


def _tagged_srgb(values: Scene) -> File:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = levels(values)
    return File(_save(Image.fromarray(pixels), "PNG", icc_profile=profile), pixels)


def _linear_png(values: Scene) -> File:
    data = _save(Image.fromarray(levels(values)), "PNG")
    gamma = _chunk(b"gAMA", struct.pack(">I", 100_000))
    return File(data[:33] + gamma + data[33:], levels(_from_light(values)))  # right after the header


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _icon(values: Scene) -> File:
    return File(_save(Image.fromarray(levels(values)), "ICO"))


def _svg(_: Scene) -> File:
    return File(b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="300"><circle r="99"/></svg>')


def _tracker(_: Scene) -> File:
    return File(_save(Image.new("P", (1, 1)), "GIF"))


def _flat(_: Scene) -> File:
    return File(_save(Image.new("RGB", (WIDTH, HEIGHT), (204, 204, 204)), "PNG"))


def _banner(values: Scene) -> File:
    return File(_save(Image.fromarray(levels(values)).resize((6400, 160)), "JPEG", quality=90))


def _bomb(_: Scene) -> File:
    """16,000² gray pixels in some 250 kB, written a row at a time."""
    side, packer = 16_000, zlib.compressobj(9)
    rows = b"".join([*(packer.compress(bytes(side + 1)) for _ in range(side)), packer.flush()])
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return File(b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", rows) + _chunk(b"IEND", b""))


def _html(_: Scene) -> File:
    return File(b"<!DOCTYPE html><html><body><h1>This picture has moved</h1></body></html>" * 20)


def _half(values: Scene) -> File:
    data = jpeg(values).data
    return File(data[: len(data) // 2])


def _no_tail(values: Scene) -> File:
    return File(jpeg(values).data[:-40])


MAKERS: Mapping[str, Callable[[Scene], File]] = {
    "jpeg": jpeg,
    "deep_gray": _deep_gray,
    "deep_rgb": _deep_rgb,
    "float_gray": _float_gray,
    "float_rgb": _float_rgb,
    "rotated": _rotated,
    "cmyk": _cmyk,
    "palette_alpha": _palette_alpha,
    "gray_alpha": _gray_alpha,
    "animated_gif": _animated_gif,
    "animated_webp": _animated_webp,
    "webp": _webp,
    "avif": _avif,
    "bilevel": _bilevel,
    "display_p3": _display_p3,
    "tagged_srgb": _tagged_srgb,
    "linear_png": _linear_png,
    "icon": _icon,
    "svg": _svg,
    "tracker": _tracker,
    "flat": _flat,
    "banner": _banner,
    "bomb": _bomb,
    "html": _html,
    "half": _half,
    "no_tail": _no_tail,
}
"""What makes each kind of file of a scene."""


@cache
def make(kind: str, seed: int) -> File:
    """The file of this kind that shows the scene of this seed, if it shows one."""
    return MAKERS[kind](scene(seed))


def gzipped(data: bytes) -> bytes:
    """As ``Content-Encoding: gzip`` sends it, the same each time."""
    return gzip.compress(data, mtime=0)
