"""What the vectors of the shapes world's CLIP tell, of scenes that training did not use.

Vectors are those of the ``embed`` stage; what a vector tells is what a linear map reads out of it. Kinds of things
marked held out are in no scene of training, of the CLIP or of the maps.

Usage: ``python -m stages.data.shapes_training.clip_figures FOLDER [SCENES]``
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression, Ridge

from stages.data.shapes_training.clip_scenes import Seen, cut_out, whole
from stages.embed_params import EmbedParams
from stages.models.encoders import load_encoder
from stages.shapes.arranged import (
    PLACES,
    Arranged,
    ArrangedSettings,
    HoldOut,
    Kind,
    hue_distance,
    hue_word,
    make_arranged,
)
from stages.shapes.draw import draw
from stages.shapes.grammar import listed
from stages.shapes.words import COLOURS, PLAIN, SHAPES, TEXTURES

Vectors: TypeAlias = npt.NDArray[np.float32]

Told: TypeAlias = tuple[Vectors, list[Kind]]
"""Vectors, each with the kind of thing that it should tell."""

POOL = 100
"""Pictures and texts among which the right one is sought."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured, all on held-out kinds; shares are in [0, 1].

    Attributes:
        text_of_scene: Scenes to which the right one of ``POOL`` captions with colours and textures is nearest.
        scene_of_text: Captions to which the right one of ``POOL`` scenes is nearest.
        phrase_of_crop: Crops to which the right one of all phrases of a colour, a texture and a noun is nearest.
        hue_error: Mean degrees from the true hue, as read from a crop's vector.
        textures: Textures that are right, likewise.
        nouns: Nouns that are right, likewise.
        places: Scenes of which the places of all things are right, as read from the scene's vector.
        placed_hue_error: Mean degrees from the true hue of the thing in a place, as read from the scene's vector.
        placed_textures: Textures of things in a place that are right, likewise.
        placed_nouns: Nouns likewise.
    """

    text_of_scene: float
    scene_of_text: float
    phrase_of_crop: float
    hue_error: float
    textures: float
    nouns: float
    places: float
    placed_hue_error: float
    placed_textures: float
    placed_nouns: float


@dataclass(frozen=True, slots=True)
class Looks:
    """Scenes and a thing of each, as vectors.

    Attributes:
        scenes: What they are of.
        wholes: A vector a scene.
        crops: A vector of the first thing of each.
        captions: Of each scene, with colours and textures.
    """

    scenes: Sequence[Arranged]
    wholes: Vectors
    crops: Vectors
    captions: Sequence[str]

    def cut_out(self) -> Told:
        """The crops with the kinds of their things."""
        return self.crops, [scene.kinds[0] for scene in self.scenes]

    def at(self, place: str) -> Told:
        """The scenes that have a thing in a place, with its kind."""
        has = [place in scene.places for scene in self.scenes]
        there = (scene for scene in self.scenes if place in scene.places)
        return self.wholes[has], [scene.kinds[scene.places.index(place)] for scene in there]


class Clip:
    """The network as ``embed`` asks it."""

    def __init__(self, folder: str) -> None:
        self._picture: Any = load_encoder(EmbedParams(kind="clip_image", model=folder), "cpu")
        self._text: Any = load_encoder(EmbedParams(kind="clip_text", model=folder), "cpu")

    def see(self, seen: Sequence[Seen]) -> Vectors:
        """The vectors of pictures that are squares already."""
        return np.stack([_of(found, "vector") for found in self._picture([(each.pixels, False) for each in seen])])

    def read(self, texts: Sequence[str]) -> Vectors:
        """The vectors of texts."""
        return np.stack([_of(found, "pooled") for found in self._text(texts)])

    def look(self, seeds: range, hold_out: HoldOut) -> Looks:
        """The scenes of these seeds."""
        scenes = [make_arranged(seed, ArrangedSettings(hold_out=hold_out)) for seed in seeds]
        drawn = [draw(scene.scene) for scene in scenes]
        wholes = [whole(*pair, is_plain=False) for pair in zip(scenes, drawn, strict=True)]
        crops = [cut_out(scene, it, 0, is_plain=False) for scene, it in zip(scenes, drawn, strict=True)]
        return Looks(scenes, self.see(wholes), self.see(crops), [each.text for each in wholes])


def _of(outputs: Any, name: str) -> Vectors:
    vector: Vectors = outputs[name]
    return vector


def figures(clip: Clip, scenes: int) -> Figures:
    """Read maps from so many scenes of training's kinds, and measure half as many of held-out kinds."""
    known, new = clip.look(range(scenes), "train"), clip.look(range(scenes, scenes + scenes // 2), "held_out")
    phrases = [f"a {' '.join(filter(None, words))}" for words in _words()]
    named = np.array(phrases)[(_unit(new.crops) @ _unit(clip.read(phrases)).T).argmax(axis=1)]
    placed = np.mean([_read(known.at(place), new.at(place)) for place in PLACES], axis=0)
    return Figures(
        *_retrieval(clip, new),
        float(np.mean(named == [_phrase(kind) for kind in new.cut_out()[1]])),
        *_read(known.cut_out(), new.cut_out()),
        _read_places(known, new),
        *placed.tolist(),
    )


def _words() -> list[tuple[str, str, str]]:
    colours = [colour for colour in COLOURS if colour not in ("white", "black")]
    return [(c, "" if t == PLAIN else t, n) for c in colours for t in TEXTURES for n in SHAPES]


def _phrase(kind: Kind) -> str:
    return " ".join(filter(None, ("a", hue_word(kind.hue), "" if kind.texture == PLAIN else kind.texture, kind.noun)))


def _retrieval(clip: Clip, looks: Looks) -> tuple[float, float]:
    """Shares of scenes and of captions that find each other, pool by pool; the same captions are all right."""
    right = []
    for start in range(0, len(looks.captions) - POOL + 1, POOL):
        captions = np.array(looks.captions[start : start + POOL])
        near = _unit(looks.wholes[start : start + POOL]) @ _unit(clip.read(captions.tolist())).T
        right.append([np.mean(captions[near.argmax(axis)] == captions) for axis in (1, 0)])
    of_scene, of_text = np.mean(right, axis=0)
    return float(of_scene), float(of_text)


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _read(known: Told, new: Told) -> tuple[float, float, float]:
    """Error of hues, and shares of textures and nouns that are right."""
    turns = Ridge(1.0).fit(known[0], [(np.cos(a), np.sin(a)) for a in np.radians([kind.hue for kind in known[1]])])
    hues = np.degrees(np.arctan2(*turns.predict(new[0]).T[::-1]))
    error = np.mean([hue_distance(hue, kind.hue) for hue, kind in zip(hues, new[1], strict=True)])
    textures = _score(known[0], [k.texture for k in known[1]], new[0], [k.texture for k in new[1]])
    return float(error), textures, _score(known[0], [k.noun for k in known[1]], new[0], [k.noun for k in new[1]])


def _read_places(known: Looks, new: Looks) -> float:
    told, truth = ([listed(sorted(scene.places)) for scene in looks.scenes] for looks in (known, new))
    return _score(known.wholes, told, new.wholes, truth)


def _score(known: Vectors, told: Sequence[str], new: Vectors, truth: Sequence[str]) -> float:
    return float(LogisticRegression(max_iter=3000).fit(known, told).score(new, truth))


def main(folder: str, scenes: str = "2000") -> None:
    """Print the figures of a CLIP in a folder."""
    for name, value in asdict(figures(Clip(folder), int(scenes))).items():
        print(f"{name:16} {value:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
