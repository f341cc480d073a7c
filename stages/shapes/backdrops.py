"""What is behind the things of a scene. Every painter takes a random generator and a size, and gives float32 sRGB."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from stages.pixels import Pixels
from stages.shapes.words import PHOTOGRAPH, Colour

Paint: TypeAlias = npt.NDArray[np.float32]
"""``height width 3``, about 0 to 255."""
Plane: TypeAlias = npt.NDArray[np.float32]
"""``height width``."""


def paint_backdrop(backdrop: str, rng: np.random.Generator, size: tuple[int, int], photos: Sequence[Pixels]) -> Paint:
    """The backdrop alone.

    Args:
        backdrop: A ground, a surface or ``PHOTOGRAPH``.
        rng: For all that varies.
        size: Height and width.
        photos: Of which a photograph is a random part of a random one.

    Raises:
        ValueError: If the backdrop is a photograph and there is none.
    """
    if backdrop != PHOTOGRAPH:
        return _PAINTERS[backdrop](rng, *size)
    if not photos:
        raise ValueError("the scene has a photograph as its backdrop: pass photographs to draw it")
    return _photograph(rng, *size, photos[int(rng.integers(len(photos)))])


def grain(rng: np.random.Generator, height: int, width: int, coarse: int = 1) -> Plane:
    """Smooth noise from -1 to 1, whose spots are ``coarse`` pixels wide."""
    rows, columns = -(-height // coarse) + 1, -(-width // coarse) + 1
    noise = np.frombuffer(rng.bytes(rows * columns), dtype=np.uint8).reshape(rows, columns)
    plane = noise.astype(np.float32) / 127.5 - 1
    return (
        plane[:height, :width] if coarse == 1 else cv2.resize(plane, (columns * coarse, rows * coarse))[:height, :width]
    )


def _tint(plane: Plane, base: Colour, swing: float) -> Paint:
    """A colour, lighter and darker by ``swing`` as the plane goes from -1 to 1."""
    paint: Paint = np.asarray(base, dtype=np.float32) * (1 + swing * plane[..., None])
    return paint


def _jitter(rng: np.random.Generator, base: Colour, by: int) -> Colour:
    r, g, b = (int(value + rng.integers(-by, by + 1)) for value in base)
    return r, g, b


def _muted(rng: np.random.Generator) -> Colour:
    level = int(rng.integers(90, 185))
    return _jitter(rng, (level, level, level), 16)


def _flat(rng: np.random.Generator, height: int, width: int) -> Paint:
    return np.full((height, width, 3), _muted(rng), dtype=np.float32)


def _gradient(rng: np.random.Generator, height: int, width: int) -> Paint:
    corners = np.array([[_muted(rng), _muted(rng)], [_muted(rng), _muted(rng)]], dtype=np.float32)
    paint: Paint = cv2.resize(corners, (width, height))
    return paint


def _speckle(rng: np.random.Generator, height: int, width: int) -> Paint:
    return _tint(grain(rng, height, width, int(rng.integers(2, 12))), _muted(rng), 0.22)


def _grass(rng: np.random.Generator, height: int, width: int) -> Paint:
    blades = cv2.blur(grain(rng, height, width), (1, 7)) * 1.6 + 0.4 * grain(rng, height, width, 20)
    return _tint(blades, _jitter(rng, (92, 122, 62), 8), 0.4)


def _sand(rng: np.random.Generator, height: int, width: int) -> Paint:
    return _tint(
        0.5 * grain(rng, height, width) + 0.5 * grain(rng, height, width, 24), _jitter(rng, (204, 178, 128), 8), 0.16
    )


def _water(rng: np.random.Generator, height: int, width: int) -> Paint:
    y = np.arange(height, dtype=np.float32)[:, None]
    waves = np.sin(y * rng.uniform(0.5, 0.8) + 3 * grain(rng, height, width, 28))
    return _tint(waves, _jitter(rng, (94, 144, 166), 8), 0.16)


def _brick(rng: np.random.Generator, height: int, width: int) -> Paint:
    course = int(rng.integers(9, 16))
    y, x = np.arange(height)[:, None], np.arange(width)[None, :]
    row = y // course
    mortar = (y % course < 2) | ((x + row % 2 * course) % (2 * course) < 2)
    wall = _tint(grain(rng, height, width, 6), _jitter(rng, (150, 92, 76), 8), 0.12)
    return np.where(mortar[..., None], np.float32(178), wall)


def _wood(rng: np.random.Generator, height: int, width: int) -> Paint:
    y = np.arange(height, dtype=np.float32)[:, None]
    plank = int(rng.integers(24, 40))
    rings = np.sin(y * rng.uniform(0.25, 0.4) + 2.5 * grain(rng, height, width, 40))
    rings[np.arange(height) % plank < 2] = -3
    return _tint(rings, _jitter(rng, (158, 116, 74), 8), 0.13)


def _stone(rng: np.random.Generator, height: int, width: int) -> Paint:
    blotches = grain(rng, height, width, int(rng.integers(10, 18)))
    cracks = np.abs(grain(rng, height, width, 22)) < 0.06
    return _tint(np.where(cracks, np.float32(-2), blotches), _jitter(rng, (142, 140, 138), 8), 0.2)


def _photograph(rng: np.random.Generator, height: int, width: int, photo: Pixels) -> Paint:
    """A random part of a photograph, with the contrast lowered by a third so that things stand out."""
    rows, columns = photo.shape[:2]
    zoom = min(rows / height, columns / width) * rng.uniform(0.6, 1.0)
    h, w = max(int(height * zoom), 1), max(int(width * zoom), 1)
    y, x = int(rng.integers(rows - h + 1)), int(rng.integers(columns - w + 1))
    part = cv2.resize(photo[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_AREA)
    paint: Paint = 43 + part.astype(np.float32) * np.float32(2 / 3)
    return paint


_PAINTERS: dict[str, Callable[[np.random.Generator, int, int], Paint]] = {
    "flat": _flat,
    "gradient": _gradient,
    "speckle": _speckle,
    "grass": _grass,
    "sand": _sand,
    "water": _water,
    "brick": _brick,
    "wood": _wood,
    "stone": _stone,
}
