"""Drawn scenes on disk, at a network's input size, so that training does not wait for drawing."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.masks import BoolArray
from stages.models.canvas import Canvas
from stages.pixels import Pixels
from stages.shapes.draw import Drawn, draw
from stages.shapes.grammar import caption
from stages.shapes.scene import Scene, SceneSettings, make_scene, reading_order
from stages.shapes.words import COLOURS, GROUNDS, OBJECTS, PHOTOGRAPH, PLAIN, SHAPES, SURFACES, TEXTURES

Array: TypeAlias = npt.NDArray[Any]
Labels: TypeAlias = npt.NDArray[np.uint8]

FIRST_SEED = 1_000_000
"""Of scenes to learn from. Smaller seeds are held out."""

SHARD = 1000
"""Scenes in a file."""
_SEEDS = 100_000
"""From the first seed of a file to that of the next; more than it needs where scenes are passed over."""

NOUNS = SHAPES + OBJECTS
BACKDROPS = (*GROUNDS, *SURFACES, PHOTOGRAPH)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a cache holds.

    Attributes:
        canvas: How scenes get to the network's input size.
        settings: What occurs in them.
        photographs: Some of their backdrops.
        least: Fewest things; seeds of scenes with fewer are passed over.
        least_textured: Likewise of things that are not plain.
    """

    canvas: Canvas
    settings: SceneSettings
    photographs: Sequence[Pixels] = ()
    least: int = 1
    least_textured: int = 0

    def hold(self, seed: int) -> tuple[Scene, Drawn]:
        """The scene of a seed."""
        scene = make_scene(seed, self.settings)
        return scene, draw(scene, self.photographs)

    def scenes(self, first_seed: int) -> Iterator[tuple[Scene, Drawn]]:
        """Scenes of one seed after the other, without end."""
        for seed in count(first_seed):
            scene = make_scene(seed, self.settings)
            textured = sum(thing.texture != PLAIN for thing in scene.things)
            if len(scene.things) >= self.least and textured >= self.least_textured:
                yield scene, draw(scene, self.photographs)


@dataclass(frozen=True, slots=True)
class SceneCache:
    """Scenes as arrays.

    Attributes:
        pixels: (scene, side, side, 3), uint8.
        owners: (scene, side, side), uint8: 0 where no thing is, or else 1 more than the index of the thing seen there.
        sizes: (scene, 2): height and width in pixels of what a scene covers of the square.
        boxes: (scene, thing, 4): on the square; 0 where there are fewer things.
        things: (scene, thing, 4): index of the noun, colour, texture and place in the caption.
        counts: (scene,): number of things.
        backdrops: (scene,): index of the backdrop.
        captions: (scene, 2): of the scene and of its mirror image.
    """

    pixels: Array
    owners: Array
    sizes: Array
    boxes: Array
    things: Array
    counts: Array
    backdrops: Array
    captions: Array

    def __len__(self) -> int:
        return len(self.pixels)


def build(folder: Path, shards: Iterable[int], recipe: Recipe) -> None:
    """Draw the shards of a folder that are missing.

    Args:
        folder: For the files.
        shards: Their numbers; those of another number have other seeds.
        recipe: What is drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for shard in shards:
        path = folder / f"{shard:04}.npz"
        if not path.exists():
            scenes = islice(recipe.scenes(FIRST_SEED + shard * _SEEDS), SHARD)
            rows = [dict(_arrays(scene, drawn, recipe)) for scene, drawn in scenes]
            columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            with path.with_suffix(".part").open("wb") as file:
                np.savez(file, **columns)  # type: ignore[arg-type]  # numpy types none but allow_pickle
            path.with_suffix(".part").rename(path)


def open_cache(*folders: Path) -> SceneCache:
    """All that :func:`build` drew into these, in memory."""
    shards = [np.load(path) for folder in folders for path in sorted(folder.glob("*.npz"))]
    return SceneCache(*(np.concatenate([shard[each.name] for shard in shards]) for each in fields(SceneCache)))


def _arrays(scene: Scene, drawn: Drawn, recipe: Recipe) -> Iterator[tuple[str, Array]]:
    canvas = recipe.canvas
    height, width = drawn.pixels.shape[:2]
    covered = canvas.covered(height, width)
    missing = recipe.settings.max_things - len(scene.things)
    yield "pixels", canvas.draw([drawn.pixels])[0].permute(1, 2, 0).numpy()
    yield "owners", _owners(drawn.masks, canvas.side, covered)
    yield "sizes", np.array(covered)
    yield "boxes", np.pad(canvas.place(drawn.boxes, height, width).numpy(), ((0, missing), (0, 0)))
    yield "things", np.pad(_things(scene), ((0, missing), (0, 0)))
    yield "counts", np.array(len(scene.things))
    yield "backdrops", np.array(BACKDROPS.index(scene.backdrop))
    yield "captions", np.array([caption(scene), caption(_mirrored(scene))])


def _mirrored(scene: Scene) -> Scene:
    return replace(scene, things=tuple(replace(thing, x=scene.width - thing.x) for thing in scene.things))


def _things(scene: Scene) -> Array:
    order = reading_order(scene)
    words = ((NOUNS.index(x.noun), list(COLOURS).index(x.colour), TEXTURES.index(x.texture)) for x in scene.things)
    return np.array([(*indices, order.index(number)) for number, indices in enumerate(words)])


def _owners(masks: Iterable[BoolArray], side: int, covered: tuple[int, int]) -> Labels:
    square = np.zeros((side, side), np.uint8)
    height, width = covered
    labels = np.asarray(sum((np.uint8(i) * mask for i, mask in enumerate(masks, 1)), np.zeros((), np.uint8)))
    square[:height, :width] = np.asarray(Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST))
    return square


def load_photographs(folder: Path | None) -> list[Pixels]:
    """All JPEGs of a folder, in the order of their names."""
    return [np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.jpg"))] if folder else []
