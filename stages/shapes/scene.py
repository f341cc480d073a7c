"""Scenes of the shapes world: which things stand where, before anything is drawn."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from stages.shapes.outlines import OUTLINES, Part, Points
from stages.shapes.words import COLOURS, GROUNDS, OBJECTS, PHOTOGRAPH, PLAIN, SHAPES, SURFACES, TEXTURES, Colour

MIN_VISIBLE = 0.6
"""The least share of a thing that those before it leave to be seen."""
MIN_GAP = 0.12
"""The least distance, in x, of the centres of two things' visible boxes, as a share of the short side."""
_TRIES = 24
_PREVIEW = 64  # pixels of the short side of the silhouettes that placing looks at


@dataclass(frozen=True, slots=True)
class Finish:
    """How exactly a thing is painted, where that is not left to the scene's seed.

    Attributes:
        hue: Degrees from 0 to 360, red at 0, green at 120; saturation and value are always the same.
        repeats: Periods of the texture to the side of the square that the outline is drawn in.
        turn: Radians that the texture is turned.
    """

    hue: float
    repeats: float
    turn: float


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing in a scene.

    Attributes:
        noun: A key of ``OUTLINES``.
        colour: A key of ``COLOURS``.
        texture: One of ``TEXTURES``.
        x, y: Its centre, in pixels.
        size: Half the side, in pixels, of the square its outline is drawn in.
        squeeze: Width of that square's picture to its height.
        angle: Radians it is turned clockwise.
        is_mirrored: Left and right are swapped, before it is turned.
        finish: Its exact hue and texture; ``None``: near the colour's own, as the scene's seed will have it.
    """

    noun: str
    colour: str
    texture: str
    x: float
    y: float
    size: float
    squeeze: float = 1.0
    angle: float = 0.0
    is_mirrored: bool = False
    finish: Finish | None = None

    def place(self, points: Points) -> Points:
        """Points of an outline, in pixels of the scene."""
        x = points[:, 0] * (-self.squeeze if self.is_mirrored else self.squeeze) * self.size
        y = points[:, 1] * self.size
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        return np.stack([self.x + cos * x - sin * y, self.y + sin * x + cos * y], axis=1)


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture to be drawn, of ``width`` x ``height`` pixels.

    Attributes:
        things: From back to front.
        backdrop: One of ``GROUNDS`` or ``SURFACES``, or ``PHOTOGRAPH``.
        seed: Of everything that varies within these bounds: hues, light, grain.
    """

    width: int
    height: int
    things: tuple[Thing, ...]
    backdrop: str
    seed: int

    @property
    def background(self) -> str | None:
        """The word for what is behind the things, if it has one."""
        return self.backdrop if self.backdrop in GROUNDS else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneSettings:
    """What may occur in a scene; the default is everything but photographs.

    Attributes:
        max_things: As many things as there may be; some scenes have fewer, none has no thing.
        sizes: Least and greatest size of a thing, as a share of the short side.
        short_sides: Least and greatest short side, in pixels.
        aspects: Widths to heights.
        has_textures: Things may be striped, dotted or checkered.
        has_objects: Things may be composed: houses, trees …
        has_grounds: Backdrops may be such as a caption names.
        has_overlaps: Things may hide parts of others.
        photographs: The share of scenes that have a photograph as backdrop.
    """

    max_things: int = 4
    sizes: tuple[float, float] = (0.25, 0.45)
    short_sides: tuple[int, int] = (112, 224)
    aspects: tuple[float, ...] = (1.0, 4 / 3, 3 / 4, 3 / 2, 2 / 3)
    has_textures: bool = True
    has_objects: bool = True
    has_grounds: bool = True
    has_overlaps: bool = True
    photographs: float = 0.0


def make_scene(seed: int, settings: SceneSettings) -> Scene:
    """The scene of a seed: the same one, always. No two of its things share both colour and noun."""
    rng = np.random.default_rng(seed)
    short, aspect = int(rng.integers(*settings.short_sides, endpoint=True)), float(rng.choice(settings.aspects))
    width, height = round(short * max(aspect, 1.0)), round(short / min(aspect, 1.0))
    scene = Scene(width, height, (), _backdrop(rng, settings), int(rng.integers(2**31)))
    for _ in range(int(rng.integers(1, settings.max_things, endpoint=True))):
        scene = _add_thing(scene, rng, settings)
    return scene


def _backdrop(rng: np.random.Generator, settings: SceneSettings) -> str:
    if rng.random() < settings.photographs:
        return PHOTOGRAPH
    return _pick(rng, GROUNDS if settings.has_grounds and rng.random() < 0.6 else SURFACES)


def _add_thing(scene: Scene, rng: np.random.Generator, settings: SceneSettings) -> Scene:
    """The scene with one more thing in front of the others; as it is if no place was found."""
    for _ in range(_TRIES):
        noun, colour = _kind(scene, rng, settings)
        if all((thing.noun, thing.colour) != (noun, colour) for thing in scene.things):
            more = replace(scene, things=(*scene.things, _thing(scene, (noun, colour), rng, settings)))
            if _is_clear(more, settings.has_overlaps):
                return more
    return scene


def _kind(scene: Scene, rng: np.random.Generator, settings: SceneSettings) -> tuple[str, str]:
    """A noun and a colour; often a noun or a colour that is there already, so that only both tell things apart."""
    noun = _pick(rng, SHAPES + OBJECTS if settings.has_objects else SHAPES)
    colour = _pick(rng, tuple(COLOURS))
    likeness = rng.random()
    if scene.things and likeness < 0.6:
        other = scene.things[int(rng.integers(len(scene.things)))]
        return (other.noun, colour) if likeness < 0.4 else (noun, other.colour)
    return noun, colour


def _thing(scene: Scene, kind: tuple[str, str], rng: np.random.Generator, settings: SceneSettings) -> Thing:
    noun, colour = kind
    size = min(scene.width, scene.height) * rng.uniform(*settings.sizes) / 2
    texture = _pick(rng, TEXTURES[1:]) if settings.has_textures and rng.random() < 0.5 else PLAIN
    return Thing(
        *(noun, colour, texture),
        x=rng.uniform(size, scene.width - size),
        y=rng.uniform(size, scene.height - size),
        size=size,
        squeeze=rng.uniform(0.8, 1.0),
        angle=rng.uniform(-0.2, 0.2),
        is_mirrored=bool(rng.random() < 0.5),
    )


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _is_clear(scene: Scene, may_overlap: bool) -> bool:
    """Whether enough of every thing can be seen, inside the picture, and their order from left to right is plain."""
    scale = _PREVIEW / min(scene.width, scene.height)
    whole = [_silhouette(thing, scene, scale) for thing in scene.things]
    seen = list(visible(whole))
    least = MIN_VISIBLE + 0.05 if may_overlap else 1.0  # The preview is coarse.
    if any(part.sum() < least * all_of_it.sum() for part, all_of_it in zip(seen, whole, strict=True)):
        return False
    columns = [np.flatnonzero(part.any(axis=0)) for part in seen]
    centres = [(xs[0] + xs[-1]) / 2 for xs in columns]
    by_place = [centres[i] for i in reading_order(scene)]
    return all(b - a >= MIN_GAP * _PREVIEW for a, b in pairwise(by_place))


def reading_order(scene: Scene) -> list[int]:
    """Indices of the things from left to right."""
    return sorted(range(len(scene.things)), key=lambda i: scene.things[i].x)


def visible(whole: list[npt.NDArray[np.bool_]]) -> Iterator[npt.NDArray[np.bool_]]:
    """What can be seen of each silhouette behind those after it."""
    for i, mask in enumerate(whole):
        yield mask & ~np.any(whole[i + 1 :], axis=0) if whole[i + 1 :] else mask


def _silhouette(thing: Thing, scene: Scene, scale: float) -> npt.NDArray[np.bool_]:
    canvas = np.zeros((round(scene.height * scale), round(scene.width * scale)), dtype=np.uint8)
    for part in OUTLINES[thing.noun]:
        fill(canvas, part, thing, (0.0, 0.0, scale))
    return canvas.astype(bool)


def fill(
    canvas: npt.NDArray[np.uint8],
    part: Part,
    thing: Thing,
    view: tuple[float, float, float],
    value: int | Colour = 255,
) -> None:
    """Paint a part.

    Args:
        canvas: ``height width`` or ``height width 3``.
        part: A part of the thing.
        thing: Says where.
        view: x and y of the scene at the canvas's corner, and pixels of the canvas to one of the scene.
        value: What its pixels become.
    """
    x, y, scale = view
    polygons = [(thing.place(points) - (x, y)) * scale - 0.5 for points in part.polygons]
    cv2.fillPoly(canvas, [np.round(points * 256).astype(np.int32) for points in polygons], value, cv2.LINE_8, 8)
