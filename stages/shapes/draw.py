"""Scenes as pixels, with the visible mask and box of every thing."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from manifests.record import Box
from stages.masks import BoolArray
from stages.pixels import Pixels
from stages.shapes.backdrops import Paint, Plane, grain, paint_backdrop
from stages.shapes.outlines import OUTLINES
from stages.shapes.scene import Scene, Thing, fill, visible
from stages.shapes.words import COLOURS, PLAIN

_FINE = 2  # Things are drawn this much larger, and averaged, for smooth edges.
_MIN_PERIOD = 8.0  # pixels of a stripe and its gap
_SATURATION, _VALUE = 0.85, 0.95  # of a thing whose hue is given


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn scene.

    Attributes:
        pixels: sRGB.
        masks: For every thing, in the scene's order, what can be seen of it; no two share a pixel.
        boxes: The box around each mask.
    """

    pixels: Pixels
    masks: tuple[BoolArray, ...]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class _Patch:
    """A thing cut out: where its corner goes, its colours times its coverage, and its coverage from 0 to 1."""

    y: int
    x: int
    paint: Paint
    cover: Plane


def draw(scene: Scene, photographs: Sequence[Pixels] = ()) -> Drawn:
    """Draw a scene: always the same pixels for the same scene and photographs.

    Args:
        scene: What to draw.
        photographs: Used if the scene's backdrop is a photograph, and needed then.
    """
    rng = np.random.default_rng(scene.seed)
    size = scene.height, scene.width
    canvas = paint_backdrop(scene.backdrop, rng, size, photographs)
    whole = [_lay(canvas, _cut_out(thing, scene, rng)) for thing in scene.things]
    masks = tuple(visible(whole))
    return Drawn(_light(canvas, rng), masks, tuple(map(hull, masks)))


def hull(mask: BoolArray) -> Box:
    """The box around a mask that is not empty."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return Box(x0=float(xs[0]), y0=float(ys[0]), x1=float(xs[-1] + 1), y1=float(ys[-1] + 1))


def _cut_out(thing: Thing, scene: Scene, rng: np.random.Generator) -> _Patch:
    reach = thing.size * 1.3  # No outline, turned, is wider.
    x0, x1 = max(int(thing.x - reach), 0), min(int(thing.x + reach) + 1, scene.width)
    y0, y1 = max(int(thing.y - reach), 0), min(int(thing.y + reach) + 1, scene.height)
    height, width = (y1 - y0) * _FINE, (x1 - x0) * _FINE
    paint, covered = np.zeros((height, width, 3), dtype=np.uint8), np.zeros((height, width), dtype=np.uint8)
    own = _paint(thing, rng, height, width)
    for part in OUTLINES[thing.noun]:
        fill(covered, part, thing, (x0, y0, _FINE))
        if part.paint:
            fill(paint, part, thing, (x0, y0, _FINE), part.paint)
        else:
            stencil = np.zeros((height, width), dtype=np.uint8)
            fill(stencil, part, thing, (x0, y0, _FINE))
            cv2.copyTo(own, stencil, paint)
    size = x1 - x0, y1 - y0
    return _Patch(y0, x0, _shrink(paint, size), _shrink(covered, size) / np.float32(255))


def _shrink(image: Pixels, size: tuple[int, int]) -> Paint:
    small: Paint = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    return small


def _paint(thing: Thing, rng: np.random.Generator, height: int, width: int) -> Pixels:
    """A sheet of the thing's colour and texture."""
    base = _base(thing, rng)
    other = np.clip(base + 110, 0, 255) if thing.colour == "black" else base * 0.5
    sheet = np.empty((height, width, 3), dtype=np.uint8)
    sheet[:] = base
    if thing.texture != PLAIN:
        sheet[_pattern(thing, rng, height, width)] = other.astype(np.uint8)
    return sheet


def _base(thing: Thing, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    if thing.finish:
        return np.array(colorsys.hsv_to_rgb(thing.finish.hue / 360, _SATURATION, _VALUE)) * 255
    return np.clip(np.asarray(COLOURS[thing.colour], dtype=np.float64) + rng.integers(-10, 11, 3), 0, 255)


def _pattern(thing: Thing, rng: np.random.Generator, height: int, width: int) -> BoolArray:
    """Where the texture's second colour goes."""
    finish = thing.finish
    repeats = finish.repeats if finish else rng.uniform(2.6, 3.6)
    period = max(thing.size * 2 / repeats, _MIN_PERIOD) * _FINE
    turn, shift = finish.turn if finish else rng.uniform(0, np.pi), rng.uniform(0, period, 2)
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]
    cos, sin = np.float32(np.cos(turn) / period), np.float32(np.sin(turn) / period)
    u, v = x * cos + y * sin + np.float32(shift[0]), y * cos - x * sin + np.float32(shift[1])
    u, v = u - np.floor(u), v - np.floor(v)
    match thing.texture:
        case "striped":
            return u < 0.45
        case "dotted":
            return (u - 0.5) ** 2 + (v - 0.5) ** 2 < 0.3**2
        case _:
            return (u < 0.5) ^ (v < 0.5)


def _lay(canvas: Paint, patch: _Patch) -> BoolArray:
    """Put a thing on the canvas; gives where it covers at least half a pixel."""
    height, width = patch.cover.shape
    window = slice(patch.y, patch.y + height), slice(patch.x, patch.x + width)
    canvas[window] = canvas[window] * (1 - patch.cover[..., None]) + patch.paint
    mask = np.zeros(canvas.shape[:2], dtype=np.bool_)
    mask[window] = patch.cover >= 0.5
    return mask


def _light(canvas: Paint, rng: np.random.Generator) -> Pixels:
    """The canvas under uneven light, with the grain of a sensor."""
    height, width = canvas.shape[:2]
    corners = rng.uniform(0.82, 1.12, (2, 2)).astype(np.float32)
    light = cv2.resize(corners, (width, height))
    noise = grain(rng, height, width) * np.float32(rng.uniform(2, 10))
    pixels: Pixels = np.clip(canvas * light[..., None] + noise[..., None], 0, 255).astype(np.uint8)
    return pixels
