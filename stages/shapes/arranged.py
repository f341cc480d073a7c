"""Scenes to learn references from: a few large things in named places, of any hue, on a plain backdrop.

"a circle on the left and a star on the right", "two hearts": what is where and how many there are stands in the
caption; hue and texture may be left out of it, and are then to be known from a picture of the thing alone.
"""

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from stages.shapes.grammar import Mention, find, listed, phrase
from stages.shapes.scene import Finish, Scene, Thing
from stages.shapes.words import COLOURS, SHAPES, TEXTURES

Says: TypeAlias = Literal["everything", "shape"]
HoldOut: TypeAlias = Literal["none", "train", "held_out"]
Layout: TypeAlias = Mapping[str, tuple[float, float]]
"""Places with the centres of the things there, x and y as shares of the side."""

SIDE = 128
"""Pixels of a scene's side."""
BANDS = 12
"""Of hues, each 30 degrees wide, for what is held out."""
PLACES: Mapping[str, str] = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "middle": "in the middle",
}
"""What a caption calls them."""
LAYOUTS: Mapping[int, tuple[Layout, ...]] = {
    1: (
        {"left": (0.25, 0.5)},
        {"right": (0.75, 0.5)},
        {"top": (0.5, 0.25)},
        {"bottom": (0.5, 0.75)},
        {"middle": (0.5, 0.5)},
    ),
    2: ({"left": (0.25, 0.5), "right": (0.75, 0.5)}, {"top": (0.5, 0.25), "bottom": (0.5, 0.75)}),
    3: (
        {"left": (0.25, 0.73), "right": (0.75, 0.73), "top": (0.5, 0.26)},
        {"left": (0.25, 0.27), "right": (0.75, 0.27), "bottom": (0.5, 0.74)},
    ),
}
"""By the number of things; far enough apart that none touches another."""

_NUMBERS = {2: "two", 3: "three"}
_SIZES = 0.34, 0.39  # shares of the side
_JITTER = 0.015  # likewise, of a centre
_TURN = 0.1  # radians, of outlines and of textures
_REPEATS = 2.2, 2.6
_ALIKE = 0.25  # share of the scenes of several things that has them alike
_HUES = {
    word: colorsys.rgb_to_hsv(*(value / 255 for value in colour))[0] * 360
    for word, colour in COLOURS.items()
    if word not in ("white", "black")
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What is the same of things alike; ``hue`` in degrees."""

    noun: str
    hue: float
    texture: str

    @property
    def is_held_out(self) -> bool:
        """Whether it is one of the fifth of all combinations that is kept from training.

        Each noun, each band of hues and each texture, and nearly each pair of them, is met in training all the same.
        """
        band = int(self.hue / 360 * BANDS)
        return (SHAPES.index(self.noun) + 2 * band + 3 * TEXTURES.index(self.texture)) % 5 == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrangedSettings:
    """What may occur: at most ``max_things``, 1 to 3, of the kinds that ``hold_out`` leaves."""

    max_things: int = 3
    hold_out: HoldOut = "none"


@dataclass(frozen=True, slots=True)
class Arranged:
    """A scene whose things stand in places.

    Attributes:
        scene: In the order in which a caption names its things.
        places: That of each thing.
        exemplar: If all things are alike, the one that is pointed at: a picture of it does not tell how many there
            are. ``None`` if the caption names each.
    """

    scene: Scene
    places: tuple[str, ...]
    exemplar: int | None

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """That of each thing."""
        return tuple(Kind(t.noun, t.finish.hue, t.texture) for t in self.scene.things if t.finish)


def make_arranged(seed: int, settings: ArrangedSettings) -> Arranged:
    """The scene of a seed: the same one, always. Its things are all alike, or no two have the same noun."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, settings.max_things, endpoint=True))
    is_alike = count > 1 and bool(rng.random() < _ALIKE)
    layout = LAYOUTS[count][int(rng.integers(len(LAYOUTS[count])))]
    places = tuple(str(place) for place in rng.permutation(list(layout)))
    nouns = [str(noun) for noun in rng.permutation(SHAPES)[:count]]
    kinds = [_kind(rng, noun, settings.hold_out) for noun in nouns[: 1 if is_alike else count]]
    things = tuple(
        _thing(rng, kind, layout[place]) for kind, place in zip(kinds * (count // len(kinds)), places, strict=True)
    )
    scene = Scene(SIDE, SIDE, things, "flat", int(rng.integers(2**31)))
    return Arranged(scene, places, int(rng.integers(count)) if is_alike else None)


def _kind(rng: np.random.Generator, noun: str, hold_out: HoldOut) -> Kind:
    while True:
        kind = Kind(noun, float(rng.uniform(0, 360)), TEXTURES[int(rng.integers(len(TEXTURES)))])
        if hold_out == "none" or kind.is_held_out == (hold_out == "held_out"):
            return kind


def _thing(rng: np.random.Generator, kind: Kind, centre: tuple[float, float]) -> Thing:
    x, y = (SIDE * (share + rng.uniform(-_JITTER, _JITTER)) for share in centre)
    return Thing(
        kind.noun,
        hue_word(kind.hue),
        kind.texture,
        x=x,
        y=y,
        size=SIDE * rng.uniform(*_SIZES) / 2,
        squeeze=rng.uniform(0.9, 1.0),
        angle=rng.uniform(-_TURN, _TURN),
        finish=Finish(kind.hue, rng.uniform(*_REPEATS), rng.uniform(-_TURN, _TURN)),
    )


def hue_word(hue: float) -> str:
    """The colour that is nearest to a hue in degrees."""
    return min(_HUES, key=lambda word: hue_distance(hue, _HUES[word]))


def hue_distance(a: float, b: float) -> float:
    """Degrees between two hues, 0 to 180."""
    return abs((a - b + 180) % 360 - 180)


def tell(arranged: Arranged, says: Says) -> tuple[str, tuple[Mention, ...]]:
    """The caption, and what it names in its order; of things alike the exemplar alone."""
    things = arranged.scene.things
    words = [thing.noun if says == "shape" else phrase(thing) for thing in things]
    if arranged.exemplar is not None:
        text, named = f"{_NUMBERS[len(things)]} {words[0]}s", [(arranged.exemplar, f"{words[0]}s")]
    else:
        placed = zip(words, arranged.places, strict=True)
        text, named = listed([f"a {thing} {PLACES[place]}" for thing, place in placed]), list(enumerate(words))
    return text, tuple(find(text, named))
