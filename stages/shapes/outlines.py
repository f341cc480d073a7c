"""Outlines of the things in the shapes world: polygons in a square from -1 to 1, y pointing down."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from stages.shapes.words import Colour

Points: TypeAlias = npt.NDArray[np.float64]
"""``points xy``: a closed polygon."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a thing.

    Attributes:
        polygons: Filled by the even-odd rule, so that one inside another is a hole.
        paint: Its own colour, or ``None`` for the colour and texture of the thing.
    """

    polygons: tuple[Points, ...]
    paint: Colour | None = None


def _polygon(*points: tuple[float, float]) -> Points:
    return np.array(points, dtype=np.float64)


def _rectangle(x0: float, y0: float, x1: float, y1: float) -> Points:
    return _polygon((x0, y0), (x1, y0), (x1, y1), (x0, y1))


def _circle(x: float, y: float, radius: float) -> Points:
    turns = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1)


def _star() -> Points:
    turns = np.arange(10) * np.pi / 5 - np.pi / 2
    radii = np.where(np.arange(10) % 2, 0.45, 1.05)
    return np.stack([radii * np.cos(turns), radii * np.sin(turns) + 0.1], axis=1)


def _heart() -> Points:
    turn = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
    return np.stack([np.sin(turn) ** 3, -y / 14.5 - 0.18], axis=1)


def _petals() -> tuple[Part, ...]:
    turns = np.arange(5) * 2 * np.pi / 5 - np.pi / 2
    return tuple(Part((_circle(0.42 * np.cos(turn), 0.42 * np.sin(turn) - 0.28, 0.34),)) for turn in turns)


_BROWN, _DARK, _PALE, _LEAF, _GOLD = (112, 72, 40), (52, 52, 58), (206, 222, 232), (58, 110, 50), (226, 168, 50)

OUTLINES: dict[str, tuple[Part, ...]] = {
    "circle": (Part((_circle(0, 0, 1),)),),
    "square": (Part((_rectangle(-0.95, -0.95, 0.95, 0.95),)),),
    "triangle": (Part((_polygon((0, -1), (1, 0.9), (-1, 0.9)),)),),
    "star": (Part((_star(),)),),
    "ring": (Part((_circle(0, 0, 1), _circle(0, 0, 0.5))),),
    "heart": (Part((_heart(),)),),
    "house": (
        Part((_rectangle(-0.78, -0.15, 0.78, 1),)),
        Part((_polygon((-1, -0.15), (0, -1), (1, -0.15)),), _BROWN),
        Part((_rectangle(-0.2, 0.4, 0.2, 1),), _DARK),
    ),
    "tree": (
        Part((_rectangle(-0.16, 0.2, 0.16, 1),), _BROWN),
        Part((_circle(-0.4, 0, 0.48),)),
        Part((_circle(0.4, 0, 0.48),)),
        Part((_circle(0, -0.42, 0.58),)),
    ),
    "car": (
        Part((_polygon((-0.6, -0.1), (-0.35, -0.6), (0.4, -0.6), (0.7, -0.1)),), _PALE),
        Part((_polygon((-1, -0.12), (0.75, -0.12), (1, 0.05), (1, 0.45), (-1, 0.45)),)),
        Part((_circle(-0.55, 0.42, 0.26),), _DARK),
        Part((_circle(0.55, 0.42, 0.26),), _DARK),
    ),
    "flower": (
        Part((_rectangle(-0.09, 0.1, 0.09, 1),), _LEAF),
        Part((_polygon((0, 0.85), (0.5, 0.5), (0.42, 0.82)),), _LEAF),
        *_petals(),
        Part((_circle(0, -0.28, 0.24),), _GOLD),
    ),
    "boat": (
        Part((_rectangle(-0.06, -1, 0.06, 0.3),), _BROWN),
        Part((_polygon((0.1, -0.95), (0.85, 0.12), (0.1, 0.12)),), _PALE),
        Part((_polygon((-1, 0.25), (1, 0.25), (0.65, 0.9), (-0.65, 0.9)),)),
    ),
}
"""The parts of each noun, those behind first."""
