"""A small data set in COCO's format whose pictures are drawn, taken through ``manifests/coco.yaml``."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from manifests.dag import parse_manifest
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import execute, prepare
from stages.pixels import Pixels, write_jpeg

PICTURES = 6


def run_coco(root: Path) -> Layout:
    """Draw the data set in ``root`` and run the shipped manifest on it, in units of four rows."""
    places = draw_coco(root)
    text = Path("manifests/coco.yaml").read_text().replace("unit_rows: 256", "unit_rows: 4")
    for example, place in places.items():
        text = text.replace(example, str(place))
    with open(os.devnull, "w") as nowhere:
        execute(prepare(parse_manifest(text, "coco.yaml")), root / "out", run_local, LineProgress(nowhere))
    return Layout(root / "out")


def draw_coco(root: Path) -> dict[str, Path]:
    """Write pictures, captions and boxes; the paths by what stands for them in ``manifests/coco.yaml``."""
    rng = np.random.default_rng(5)
    images, captions, boxes = [], [], []
    for number in range(PICTURES):
        pixels, box = ball(rng)
        name = f"{number:012}.jpg"
        (root / name).write_bytes(write_jpeg(pixels).data)
        height, width = pixels.shape[:2]
        images.append({"id": number, "file_name": name, "height": height, "width": width})
        captions.append({"id": number, "image_id": number, "caption": "A red ball lies on a green field."})
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": box, "iscrowd": 0})
    categories = [{"id": 1, "name": "sports ball"}]
    return {
        "data/coco/val2017": root,
        "data/coco/annotations/captions_val2017.json": _write(root / "captions.json", images, captions, []),
        "data/coco/annotations/instances_val2017.json": _write(root / "instances.json", images, boxes, categories),
    }


def _write(path: Path, images: list[Any], annotations: list[Any], categories: list[Any]) -> Path:
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def ball(rng: np.random.Generator) -> tuple[Pixels, list[float]]:
    """A red disc on a noisy green field, and its COCO box."""
    height, width = int(rng.integers(200, 260)), int(rng.integers(240, 300))
    y, x, radius = int(rng.integers(80, 120)), int(rng.integers(90, 140)), int(rng.integers(40, 70))
    pixels = rng.integers(0, 40, (height, width, 3)).astype(np.uint8) + np.array([0, 120, 0], np.uint8)
    rows, columns = np.ogrid[:height, :width]
    pixels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = (200, 30, 30)
    return pixels, [x - radius, y - radius, 2 * radius + 1, 2 * radius + 1]
