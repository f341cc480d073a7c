"""What is done to reference images, to the last bit the same on any machine."""

import numpy as np

from training.stream.geometry import Pixels, mirror
from training.stream.keyed import Draws
from training.stream.prompts.base import Augmentation

_TERMS = 4
_MEAN = 127.5 * _TERMS
_DEVIATION = (_TERMS * (256**2 - 1) / 12) ** 0.5
_GREY = np.array([19595, 38470, 7471], np.uint32)
"""Luma in 1 / 65536. Source: ITU-R BT.601."""


def crop(pixels: Pixels, part: tuple[float, float, float, float]) -> Pixels:
    """A part of an image: left, top, right, bottom as fractions; at least one pixel."""
    height, width = pixels.shape[:2]
    x0, y0 = min(int(part[0] * width), width - 1), min(int(part[1] * height), height - 1)
    return pixels[y0 : max(y0 + 1, round(part[3] * height)), x0 : max(x0 + 1, round(part[2] * width))]


def alter(pixels: Pixels, how: Augmentation, draws: Draws, name: str) -> Pixels:
    """An image flipped, grey, with noise, as ``how`` says; its noise is drawn as ``noise NAME``."""
    pixels = mirror(pixels) if how.is_flipped else pixels
    pixels = _grey(pixels) if how.is_grey else pixels
    pixels = _add_noise(pixels, how.noise, draws, name) if how.noise else pixels
    return np.ascontiguousarray(pixels)


def _grey(pixels: Pixels) -> Pixels:
    luma = (pixels @ _GREY + np.uint32(1 << 15)) >> np.uint32(16)
    return np.repeat(luma.astype(np.uint8)[:, :, None], 3, axis=2)


def _add_noise(pixels: Pixels, deviation: float, draws: Draws, name: str) -> Pixels:
    noise = normal(draws, f"noise {name}", pixels.size).reshape(pixels.shape)
    noise *= np.float32(255 * deviation)
    noise += pixels
    return np.rint(noise, out=noise).clip(0, 255, out=noise).astype(np.uint8)


def normal(draws: Draws, name: str, count: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Numbers of mean 0 and deviation 1, near enough to normal for noise: the sum of four random bytes each.

    Sums of integers come out the same on every machine and version, which logarithms and NumPy's own normal numbers
    don't promise.
    """
    words = draws.generator(name).random_raw(-(-count * _TERMS // 8)).astype("<u8", copy=False)
    planes = words.view(np.uint8)[: count * _TERMS].reshape(_TERMS, count)
    total = np.zeros(count, np.int16)
    for plane in planes:
        total += plane
    return (total - np.float32(_MEAN)) * np.float32(1 / _DEVIATION)
