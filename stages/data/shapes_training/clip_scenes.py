"""What the CLIP of the shapes world learns from: arranged scenes, their things cut out, their edges, and words."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.canny import canny
from stages.cutting import blend
from stages.data.shapes_training.clip_network import SIDE
from stages.geometry import pixel_hull
from stages.models.squares import pad
from stages.pixels import Pixels
from stages.shapes.arranged import PLACES, Arranged, ArrangedSettings, HoldOut, Kind, make_arranged, tell
from stages.shapes.draw import Drawn, draw
from stages.shapes.grammar import phrase
from stages.shapes.words import SHAPES, TEXTURES

FIRST_SEED = 1_000_000
"""Of scenes to learn from. Smaller seeds are held out."""
SPOTS = (*PLACES, "alone")
"""Where a thing may be: in a place of a scene, or cut out."""
NONE = -100
"""What is not asked."""

_WHITE = 255, 255, 255
_PLAINLY = 0.3  # share of the texts that leave out colour and texture
_EDGES = 0.125  # share of the scenes of which the edges are shown too


@dataclass(frozen=True, slots=True)
class Seen:
    """A picture with a text and what is asked about it.

    Attributes:
        pixels: (side, side, 3).
        text: That belongs to it.
        nouns: For each spot, 1 more than the noun's index, or 0 where no thing is.
        textures: For each spot, the texture's index, or ``NONE``.
        hues: For each spot, degrees; NaN where they are not asked.
    """

    pixels: Pixels
    text: str
    nouns: npt.NDArray[np.int64]
    textures: npt.NDArray[np.int64]
    hues: npt.NDArray[np.float32]


def show(seeds: range, hold_out: HoldOut = "train") -> Iterator[Seen]:
    """All that is shown of the scenes of these seeds: each, one of its things, and of some the edges."""
    for seed in seeds:
        arranged = make_arranged(seed, ArrangedSettings(hold_out=hold_out))
        drawn, rng = draw(arranged.scene), np.random.default_rng((seed, 1))
        yield whole(arranged, drawn, is_plain=bool(rng.random() < _PLAINLY))
        yield cut_out(arranged, drawn, int(rng.integers(len(arranged.places))), is_plain=bool(rng.random() < _PLAINLY))
        if rng.random() < _EDGES:
            yield edges(arranged, drawn)


def whole(arranged: Arranged, drawn: Drawn, is_plain: bool) -> Seen:
    """The scene with its caption."""
    text, _ = tell(arranged, "shape" if is_plain else "everything")
    return Seen(_square(drawn.pixels), text, *_asked(dict(zip(arranged.places, arranged.kinds, strict=True))))


def cut_out(arranged: Arranged, drawn: Drawn, number: int, is_plain: bool) -> Seen:
    """A thing on white as the engine cuts and embeds it, with its phrase."""
    thing, kind = arranged.scene.things[number], arranged.kinds[number]
    window = pixel_hull(drawn.boxes[number], arranged.scene.width, arranged.scene.height).slices
    cover = drawn.masks[number][window].astype(np.uint8) * np.uint8(255)
    pixels = pad(blend(drawn.pixels[window], cover, _WHITE), SIDE, Image.Resampling.BICUBIC, _WHITE)
    text = f"a {thing.noun if is_plain else phrase(thing)}"
    return Seen(pixels, text, *_asked({"alone": kind}))


def edges(arranged: Arranged, drawn: Drawn) -> Seen:
    """The scene's edges with the caption of shapes alone."""
    text, _ = tell(arranged, "shape")
    nouns, textures, hues = _asked(dict(zip(arranged.places, arranged.kinds, strict=True)))
    lines = np.repeat(canny(drawn.pixels, 100, 200)[..., None], 3, axis=2)
    return Seen(_square(lines), text, nouns, np.full_like(textures, NONE), np.full_like(hues, np.nan))


def _square(pixels: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


def _asked(kinds: dict[str, Kind]) -> tuple[Any, Any, Any]:
    nouns, textures = np.zeros(len(SPOTS), np.int64), np.full(len(SPOTS), NONE)
    hues = np.full(len(SPOTS), np.nan, np.float32)
    for spot, kind in kinds.items():
        at = SPOTS.index(spot)
        nouns[at], textures[at] = SHAPES.index(kind.noun) + 1, TEXTURES.index(kind.texture)
        hues[at] = kind.hue
    return nouns, textures, hues
