"""The words of the shapes world, and what each looks like."""

from typing import TypeAlias

Colour: TypeAlias = tuple[int, int, int]
"""sRGB, 0 to 255."""

COLOURS: dict[str, Colour] = {
    "red": (214, 38, 40),
    "green": (36, 170, 60),
    "blue": (44, 80, 214),
    "yellow": (240, 214, 40),
    "purple": (134, 44, 168),
    "pink": (246, 140, 190),
    "white": (244, 244, 240),
    "black": (28, 28, 32),
}
"""What colours a thing, far enough apart that light and noise confuse none. No "orange": it is a noun as well."""

PLAIN = "plain"
TEXTURES = (PLAIN, "striped", "dotted", "checkered")
"""How a thing is painted. A plain one is not called so."""

SHAPES = ("circle", "square", "triangle", "star", "ring", "heart")
OBJECTS = ("house", "tree", "car", "flower", "boat")
"""Things of several parts, of which the largest has the colour: walls, crown, body, petals, hull."""

GROUNDS = ("grass", "sand", "water", "brick", "wood", "stone")
"""Backdrops that a caption names."""

SURFACES = ("flat", "gradient", "speckle")
"""Backdrops that a caption leaves out."""

PHOTOGRAPH = "photograph"
"""The backdrop that is given and not drawn; a caption leaves it out."""
