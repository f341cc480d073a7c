"""What a small picture of the arranged shapes world shows: how many things, where, of what shape, hue and texture.

Things are far more saturated than any backdrop, and both tones of a texture have one hue and one saturation: so
saturation tells a thing from what is behind it, at any brightness. Textures and shapes are told by linear
discriminants that learn from drawn scenes at the pictures' own size.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Self, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from stages.pixels import Pixels, resize
from stages.shapes.arranged import SIDE, Arranged, ArrangedSettings, Kind, make_arranged
from stages.shapes.draw import draw
from stages.shapes.scene import Thing

Array: TypeAlias = npt.NDArray[Any]

FIRST_SEED = 400_000
"""Of the scenes that discriminants learn from."""

_SATURATION = 0.5  # of 0 to 1; that of things is 0.85, that of backdrops below 0.35
_CHROMA = 40  # of 0 to 255; in the dark, saturation is noise
_LEAST_AREA = 0.012  # share of the picture; a third of a star
_GRID = 16  # cells of a side of what discriminants see of a thing
_WAVES = 6  # of the texture's spectrum, beginning at the lowest


@dataclass(frozen=True, slots=True)
class Look:
    """A thing that a picture shows.

    Attributes:
        x, y: Centre of its box, as shares of the picture's side.
        kind: What it is, by its look.
    """

    x: float
    y: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class Patch:
    """A thing as it was found, not yet named.

    Attributes:
        x, y: As in :class:`Look`.
        hue: Degrees.
        outline: (grid, grid): how much of each cell of its box is the thing, 0 to 1.
        tone: (grid, grid): chroma there, as a share of the thing's most.
    """

    x: float
    y: float
    hue: float
    outline: Array
    tone: Array

    @property
    def spectrum(self) -> Array:
        """Amplitudes of the tone's waves, the same wherever the texture begins, and how much the tone varies."""
        inside = self.outline > 0.9
        tones = self.tone[inside] if inside.any() else np.zeros(1)
        waves = np.fft.fft2(np.where(inside, self.tone - tones.mean(), 0.0))[:, :_WAVES]
        amplitudes = np.abs(np.concatenate([waves[:_WAVES], waves[1 - _WAVES :]])) / max(int(inside.sum()), 1)
        return np.array([*amplitudes.ravel(), tones.std(), np.median(tones)])


def find(pixels: Pixels) -> Iterator[Patch]:
    """The things of a picture, ``height width 3``, sRGB."""
    most, chroma = pixels.max(axis=2).astype(np.float32), np.ptp(pixels, axis=2).astype(np.float32)
    saturation = chroma / np.maximum(most, 1)
    is_thing = (saturation > _SATURATION) & (chroma > _CHROMA)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(is_thing.astype(np.uint8), connectivity=4)
    for label, (x, y, width, height, area) in enumerate(boxes):
        if label and area >= _LEAST_AREA * is_thing.size:
            window = slice(y, y + height), slice(x, x + width)
            middle = (x + width / 2) / pixels.shape[1], (y + height / 2) / pixels.shape[0]
            yield _patch(pixels[window], labels[window] == label, middle)


def _patch(pixels: Pixels, mask: Array, middle: tuple[float, float]) -> Patch:
    chroma = np.where(mask, np.ptp(pixels, axis=2), 0).astype(np.float32)
    tone = chroma / np.percentile(chroma[mask], 90)
    outline = _on_grid(mask.astype(np.float32))
    return Patch(*middle, _hue(pixels[mask]), outline, _on_grid(tone) / np.maximum(outline, 1e-3))


def _on_grid(plane: Array) -> Array:
    return cv2.resize(plane, (_GRID, _GRID), interpolation=cv2.INTER_LINEAR)


def _hue(pixels: Array) -> float:
    """The mean hue of some pixels in degrees, those of more chroma counting more."""
    red, green, blue = pixels.astype(np.float64).T
    return float(np.degrees(np.arctan2(np.sqrt(3) * (green - blue).sum(), (2 * red - green - blue).sum())) % 360)


class Measure:
    """Looks at pictures of one size."""

    def __init__(self, side: int, nouns: LinearDiscriminantAnalysis, textures: LinearDiscriminantAnalysis) -> None:
        self.side = side
        self._nouns, self._textures = nouns, textures

    @classmethod
    def learn(cls, side: int, scenes: int = 1000) -> Self:
        """Learn shapes and textures from so many scenes at ``side`` x ``side`` pixels; takes a few seconds.

        Each is also seen out of focus and with noise, as generated pictures are.
        """
        patches: list[Patch] = []
        kinds: list[Kind] = []
        for seed in range(FIRST_SEED, FIRST_SEED + scenes):
            arranged = make_arranged(seed, ArrangedSettings())
            sharp = picture(arranged, side)
            for pixels in (sharp, _worsened(sharp, np.random.default_rng(seed))):
                found = list(find(pixels))
                patches += [min(found, key=partial(_distance, thing)) for thing in arranged.scene.things]
                kinds += arranged.kinds
        nouns, textures = (LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto") for _ in range(2))
        nouns.fit([patch.outline.ravel() for patch in patches], [kind.noun for kind in kinds])
        textures.fit([patch.spectrum for patch in patches], [kind.texture for kind in kinds])
        return cls(side, nouns, textures)

    def __call__(self, pixels: Pixels) -> tuple[Look, ...]:
        """The things in a picture, sRGB, ``side side 3``, in no order that means anything.

        Raises:
            ValueError: If the picture has another size.
        """
        if pixels.shape != (self.side, self.side, 3):
            raise ValueError(f"this looks at pictures of {(self.side, self.side, 3)}, got {pixels.shape}")
        return tuple(self._look(patch) for patch in find(pixels))

    def _look(self, patch: Patch) -> Look:
        noun = self._nouns.predict([patch.outline.ravel()])[0]
        texture = self._textures.predict([patch.spectrum])[0]
        return Look(patch.x, patch.y, Kind(str(noun), patch.hue, str(texture)))


def _worsened(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    blurred = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.2, 0.9)).astype(np.float32)
    noise = rng.normal(0, rng.uniform(0, 15), pixels.shape)
    return np.clip(blurred + noise, 0, 255).astype(np.uint8)


def _distance(thing: Thing, patch: Patch) -> float:
    return abs(patch.x - thing.x / SIDE) + abs(patch.y - thing.y / SIDE)


@lru_cache
def measure(side: int) -> Measure:
    """The measure of a size, learnt once."""
    return Measure.learn(side)


def picture(arranged: Arranged, side: int) -> Pixels:
    """The scene itself at a size."""
    return resize(draw(arranged.scene).pixels, side, side)
