"""Drawn scenes on disk, at a network's input size, so that training does not wait for drawing."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import count
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
from stages.shapes.words import COLOURS, GROUNDS, OBJECTS, PHOTOGRAPH, SHAPES, SURFACES, TEXTURES

Array: TypeAlias = npt.NDArray[Any]
Labels: TypeAlias = npt.NDArray[np.uint8]

FIRST_SEED = 1_000_000
"""Of scenes to learn from. Smaller seeds are held out."""

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
    """

    canvas: Canvas
    settings: SceneSettings
    photographs: Sequence[Pixels] = ()
    least: int = 1

    def hold(self, seed: int) -> tuple[Scene, Drawn]:
        """The scene of a seed."""
        scene = make_scene(seed, self.settings)
        return scene, draw(scene, self.photographs)

    def scenes(self, first_seed: int) -> Iterator[tuple[Scene, Drawn]]:
        """Scenes of one seed after the other, without end."""
        for seed in count(first_seed):
            scene = make_scene(seed, self.settings)
            if len(scene.things) >= self.least:
                yield scene, draw(scene, self.photographs)


@dataclass(frozen=True, slots=True)
class SceneCache:
    """Scenes as arrays, each in a file that several runs may map.

    Attributes:
        pixels: (scene, side, side, 3), uint8.
        owners: (scene, side, side), uint8: 0 where no thing is, or else 1 more than the index of the thing seen there.
        sizes: (scene, 2): height and width in pixels of what a scene covers of the square.
        boxes: (scene, thing, 4): on the square; 0 where there are fewer things.
        things: (scene, thing, 4): index of the noun, colour, texture and place in the caption.
        counts: (scene,): number of things.
        backdrops: (scene,): index of the backdrop.
    """

    pixels: Array
    owners: Array
    sizes: Array
    boxes: Array
    things: Array
    counts: Array
    backdrops: Array

    def __len__(self) -> int:
        return len(self.pixels)


def build(folder: Path, scenes: int, recipe: Recipe, first_seed: int = FIRST_SEED) -> None:
    """Draw scenes into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    side, most = recipe.canvas.side, recipe.settings.max_things
    shapes = {"pixels": (side, side, 3), "owners": (side, side), "sizes": (2,), "boxes": (most, 4)}
    shapes |= {"things": (most, 4), "counts": (), "backdrops": ()}
    types = {"sizes": np.int16, "boxes": np.float32}
    files = {
        name: np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            folder / f"{name}.npy", "w+", types.get(name, np.uint8), (scenes, *shape)
        )
        for name, shape in shapes.items()
    }
    captions = []
    for number, (scene, drawn) in zip(range(scenes), recipe.scenes(first_seed), strict=False):
        captions.append((caption(scene), caption(_mirrored(scene))))
        for name, value in _arrays(scene, drawn, recipe.canvas, most):
            files[name][number] = value
    (folder / "captions.json").write_text(json.dumps(captions))


def open_cache(folder: Path) -> tuple[SceneCache, list[tuple[str, str]]]:
    """What :func:`build` drew, with each scene's caption and that of its mirror image."""
    arrays = [np.load(folder / f"{field.name}.npy", mmap_mode="r") for field in fields(SceneCache)]
    return SceneCache(*arrays), [
        (as_is, mirrored) for as_is, mirrored in json.loads((folder / "captions.json").read_text())
    ]


def _arrays(scene: Scene, drawn: Drawn, canvas: Canvas, most: int) -> Iterator[tuple[str, Array]]:
    height, width = drawn.pixels.shape[:2]
    covered = canvas.covered(height, width)
    missing = most - len(scene.things)
    yield "pixels", canvas.draw([drawn.pixels])[0].permute(1, 2, 0).numpy()
    yield "owners", _owners(drawn.masks, canvas.side, covered)
    yield "sizes", np.array(covered)
    yield "boxes", np.pad(canvas.place(drawn.boxes, height, width).numpy(), ((0, missing), (0, 0)))
    yield "things", np.pad(_things(scene), ((0, missing), (0, 0)))
    yield "counts", np.array(len(scene.things))
    yield "backdrops", np.array(BACKDROPS.index(scene.backdrop))


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
