"""ICC profiles of colours that a file describes in other words: by chromaticities and a curve."""

import struct
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float64]

_D50 = (0.9642, 1.0, 0.8249)
"""XYZ of the white that ICC profiles are relative to. Source: ICC.1:2010, 7.2.16."""

_BRADFORD: Matrix = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
"""XYZ to the cone responses in which whites are adapted. Source: ICC.1:2010, annex E."""

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
"""sRGB's g, a, b, c, d of ICC's curve 3: (a x + b)^g from d on, c x below. Source: IEC 61966-2-1."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the numbers of an RGB picture are light.

    Attributes:
        points: Chromaticities x, y of white, red, green and blue.
        curve: g, a, b, c, d as in :data:`SRGB_CURVE`.
    """

    points: tuple[tuple[float, float], ...]
    curve: tuple[float, float, float, float, float]


def gamma_curve(exponent: float) -> tuple[float, float, float, float, float]:
    """The curve of light = value^exponent."""
    return exponent, 1.0, 0.0, 0.0, 0.0


def rgb_profile(encoding: Encoding) -> bytes:
    """The encoding as an ICC profile of RGB pictures.

    Raises:
        ValueError: If no colours have these chromaticities, such as primaries on one line.
    """
    colorants = _colorants(encoding)
    curve = _curve(encoding.curve)
    tags = {b"wtpt": _xyz(_D50)}
    for name, column in zip("rgb", colorants.T, strict=True):
        tags[f"{name}XYZ".encode()] = _xyz(column)
        tags[f"{name}TRC".encode()] = curve
    return _profile(tags)


def _colorants(encoding: Encoding) -> Matrix:
    """XYZ of the primaries, one a column, adapted to D50, where they sum to its white."""
    white, *colours = map(_of_chromaticity, encoding.points)
    primaries = np.stack(colours, axis=1)
    if abs(np.linalg.det(primaries)) < 1e-6:
        raise ValueError(f"no colours have the chromaticities {encoding.points}")
    cones = _BRADFORD @ np.array(_D50) / (_BRADFORD @ white)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(cones) @ _BRADFORD
    return np.asarray(adapt @ (primaries * np.linalg.solve(primaries, white)))


def _of_chromaticity(xy: tuple[float, float]) -> Matrix:
    x, y = xy
    if not (0 <= x <= 1 and 0 < y <= 1 and x + y <= 1):
        raise ValueError(f"no colour has the chromaticity {xy}")
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _fixed(value: float) -> bytes:
    if not abs(value) < 32768:
        raise ValueError(f"no colours: {value:g} is more than a profile can hold")
    return struct.pack(">i", round(value * 65536))


def _xyz(values: Matrix | tuple[float, float, float]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(float(value)) for value in values)


def _curve(parameters: tuple[float, ...]) -> bytes:
    return b"para\0\0\0\0\0\3\0\0" + b"".join(map(_fixed, parameters))


def _profile(tags: dict[bytes, bytes]) -> bytes:
    """A version 4 display profile of RGB. Source: ICC.1:2010, 7.2 and 7.3."""
    start = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        table += struct.pack(">4sII", name, start + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    header = struct.pack(">I4sI4s4s4s", start + len(bodies), b"", 0x04200000, b"mntr", b"RGB ", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_fixed, _D50))
    return header.ljust(128, b"\0") + table + bodies
