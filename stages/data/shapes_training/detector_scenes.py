"""Scenes for training the detector, drawn once and kept in a folder at the size that the detector sees.

Usage: ``python -m stages.data.shapes_training.detector_scenes FOLDER FIRST_SHARD END_SHARD [PHOTOGRAPH ...]``
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from stages.pixels import Pixels
from stages.shapes.draw import draw
from stages.shapes.scene import SceneSettings, make_scene
from stages.shapes.words import COLOURS, OBJECTS, SHAPES, TEXTURES

SHORT_SIDE, LONG_SIDE = 96, 144
"""Size of a picture for the detector: at 1:1, 4:3 and 3:2, whole cells of its feature maps."""
STRIDE = 16
SHARD = 1000
FIRST_SEED = 1_000_000
"""Seeds from here on are for training, those below for evaluation."""
MAX_THINGS = 4
NOUNS = SHAPES + OBJECTS

Canvas = tuple[int, int]
"""Height and width of a padded picture."""


@dataclass(frozen=True, slots=True)
class Example:
    """A scene as the detector is taught it.

    Attributes:
        pixels: At the detector's size, not padded.
        boxes: ``thing cxcywh``, shares of the picture.
        kinds: ``thing 3``: numbers of colour, texture and noun.
    """

    pixels: Pixels
    boxes: npt.NDArray[np.float32]
    kinds: npt.NDArray[np.int8]


def fitted(height: int, width: int) -> tuple[int, int]:
    """The size a picture is brought to: short side ``SHORT_SIDE`` unless the long one would pass ``LONG_SIDE``."""
    short, long = min(height, width), max(height, width)
    exact = min(float(SHORT_SIDE), LONG_SIDE * short / long)
    sides = round(exact), int(exact * long / short)
    return sides if height <= width else sides[::-1]


def make_example(seed: int, settings: SceneSettings, photographs: Sequence[Pixels] = ()) -> Example:
    """Draw the scene of a seed."""
    scene = make_scene(seed, settings)
    drawn = draw(scene, photographs)
    height, width = fitted(scene.height, scene.width)
    small = Image.fromarray(drawn.pixels).resize((width, height), Image.Resampling.BILINEAR)
    boxes = [((b.x0 + b.x1) / 2, (b.y0 + b.y1) / 2, b.x1 - b.x0, b.y1 - b.y0) for b in drawn.boxes]
    colours = list(COLOURS)
    kinds = [(colours.index(t.colour), TEXTURES.index(t.texture), NOUNS.index(t.noun)) for t in scene.things]
    shares = np.array(boxes, dtype=np.float32) / np.float32((scene.width, scene.height, scene.width, scene.height))
    return Example(np.asarray(small), shares, np.array(kinds, dtype=np.int8))


def write_shard(folder: Path, shard: int, photographs: Sequence[Pixels]) -> None:
    """Draw ``SHARD`` scenes, and keep those of one canvas together."""
    settings = SceneSettings(short_sides=(112, 176), photographs=0.2 if photographs else 0.0)
    groups: dict[Canvas, list[Example]] = defaultdict(list)
    for seed in range(FIRST_SEED + shard * SHARD, FIRST_SEED + (shard + 1) * SHARD):
        example = make_example(seed, settings, photographs)
        height, width = (-(-side // STRIDE) * STRIDE for side in example.pixels.shape[:2])
        groups[height, width].append(example)
    for (height, width), examples in groups.items():
        _write(folder / f"{shard:04}-{height}x{width}.npz", examples, (height, width))


def _write(path: Path, examples: Sequence[Example], canvas: Canvas) -> None:
    count = len(examples)
    pixels = np.zeros((count, *canvas, 3), dtype=np.uint8)
    sizes = np.array([example.pixels.shape[:2] for example in examples], dtype=np.int16)
    boxes = np.zeros((count, MAX_THINGS, 4), dtype=np.float32)
    kinds = np.full((count, MAX_THINGS, 3), -1, dtype=np.int8)
    for i, example in enumerate(examples):
        height, width = example.pixels.shape[:2]
        pixels[i, :height, :width] = example.pixels
        boxes[i, : len(example.boxes)] = example.boxes
        kinds[i, : len(example.kinds)] = example.kinds
    np.save(path.with_suffix(".npy"), pixels)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, sizes=sizes, boxes=boxes, kinds=kinds)
    part.rename(path)  # last, so that a shard that is there is whole


def read_photographs(paths: Sequence[str]) -> list[Pixels]:
    """Photographs as pixels, their shorter side about 300."""
    photographs = []
    for path in paths:
        with Image.open(path) as image:
            image.thumbnail((450, 450))
            photographs.append(np.asarray(image.convert("RGB")))
    return photographs


def main(folder: str, first: str, end: str, *photographs: str) -> None:
    """Draw the shards that are missing."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    pictures = read_photographs(photographs)
    for shard in range(int(first), int(end)):
        if not any(Path(folder).glob(f"{shard:04}-*.npz")):
            write_shard(Path(folder), shard, pictures)


if __name__ == "__main__":
    main(*sys.argv[1:])
