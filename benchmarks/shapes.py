"""How well the bundled networks do in their world, measured through the pipeline as it ships.

``python -m benchmarks.shapes`` runs ``manifests/shapes.yaml`` on scenes that no network has learnt from, once as it is
and once with the true captions, and holds what comes out against the scenes.
"""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import yaml
from rich.console import Console
from rich.table import Table

from manifests.dag import parse_manifest
from manifests.record import Record, Subject
from manifests.shard import record_from_members
from manifests.tar import read_samples
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import execute, prepare
from stages.geometry import iou
from stages.masks import BoolArray, decode_mask
from stages.shapes.draw import Drawn, draw
from stages.shapes.grammar import caption, mentions
from stages.shapes.scene import Scene, SceneSettings, make_scene

MANIFEST = Path(__file__).parents[1] / "manifests" / "shapes.yaml"
FIRST_SEED = 200_000
"""Of the scenes; networks learnt from 1,000,000 up, and were watched on others below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Shares and means over the scenes, each in [0, 1].

    Attributes:
        captions: Captions that are the scene's own, word for word.
        precision: With true captions, average precision of the subjects' boxes at IoU 0.5; what is not grounded counts.
        box_iou: With true captions, mean IoU of the boxes of what is grounded.
        mask_iou: Likewise of the masks.
        prompts: As it ships, scenes of which every thing is a subject by its own phrase, box and mask (IoU above 0.5).
    """

    captions: float
    precision: float
    box_iou: float
    mask_iou: float
    prompts: float


@dataclass(frozen=True, slots=True)
class Truth:
    """A thing of a scene as a caption names it, and where it is."""

    phrase: str
    box_iou: float
    mask_iou: float
    score: float


def measure(scenes: int, folder: Path) -> Figures:
    """Run both manifests on so many scenes, in this process, and hold the outcome against the truth."""
    shipped = run(_manifest(scenes, {}), folder / "shipped")
    told = run(_manifest(scenes, {"caption": {"stage": "caption", "params": {}}}), folder / "told")
    seeds = range(FIRST_SEED, FIRST_SEED + scenes)
    drawn = {seed: _drawn(seed) for seed in seeds}
    found = [truth for seed in seeds for truth in judge(*drawn[seed], told.get(seed))]
    grounded = [truth for truth in found if truth.score >= 0]
    return Figures(
        captions=float(
            np.mean([seed in shipped and shipped[seed].caption == caption(drawn[seed][0]) for seed in seeds])
        ),
        precision=average_precision(found),
        box_iou=float(np.mean([truth.box_iou for truth in grounded])),
        mask_iou=float(np.mean([truth.mask_iou for truth in grounded])),
        prompts=float(np.mean([_is_right(*drawn[seed], shipped.get(seed)) for seed in seeds])),
    )


def _manifest(scenes: int, changes: Mapping[str, Mapping[str, Any]]) -> str:
    """The shipped manifest on held-out scenes, with some nodes changed."""
    plain = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    plain["source"] |= {"scenes": scenes, "seed": FIRST_SEED}
    plain["nodes"] = [{**node, **changes.get(node["id"], {})} for node in plain["nodes"]]
    return str(yaml.safe_dump(plain, sort_keys=False))


def run(manifest: str, out: Path) -> dict[int, Record]:
    """What a manifest keeps, by the scene's seed."""
    with open(os.devnull, "w") as nowhere:
        execute(prepare(parse_manifest(manifest, MANIFEST.name)), out, run_local, LineProgress(nowhere))
    layout = Layout(out)
    kept: dict[int, Record] = {}
    for unit in layout.committed():
        with layout.tar(unit).open("rb") as tar:
            records = [record_from_members(members) for _, members in read_samples(tar)]
        kept |= {int(record.source_id or 0): record for record in records}
    return kept


def _drawn(seed: int) -> tuple[Scene, Drawn]:
    scene = make_scene(seed, SceneSettings())
    return scene, draw(scene)


def judge(scene: Scene, drawn: Drawn, record: Record | None) -> Iterator[Truth]:
    """Every thing of a scene with what was found for its phrase; a score of -1 where nothing was."""
    subjects = {subject.phrase: subject for subject in (record.subjects if record else None) or ()}
    for mention in mentions(scene):
        subject = subjects.get(mention.phrase)
        if subject is None or subject.box is None or subject.mask is None:
            yield Truth(mention.phrase, 0.0, 0.0, -1.0)
        else:
            boxes = iou(subject.box, drawn.boxes[mention.thing])
            yield Truth(mention.phrase, boxes, _overlap(subject, drawn.masks[mention.thing]), subject.score or 0.0)


def _overlap(subject: Subject, truth: BoolArray) -> float:
    assert subject.mask
    found = decode_mask(subject.mask)
    return float((found & truth).sum() / (found | truth).sum())


def average_precision(found: Sequence[Truth]) -> float:
    """Area under precision over recall at IoU 0.5, with as many to be found as there are."""
    ranked = sorted((truth for truth in found if truth.score >= 0), key=lambda truth: -truth.score)
    right = np.cumsum([truth.box_iou >= 0.5 for truth in ranked])
    precision = right / np.arange(1, len(ranked) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    gains = np.diff(right, prepend=0)
    return float((best_from_here * gains).sum() / len(found)) if ranked else 0.0


def _is_right(scene: Scene, drawn: Drawn, record: Record | None) -> bool:
    if record is None or record.prompt is None:
        return False
    found = list(judge(scene, drawn, record))
    in_prompt = {image.phrase for image in record.prompt.images}
    return in_prompt == {truth.phrase for truth in found} and all(
        truth.box_iou > 0.5 and truth.mask_iou > 0.5 for truth in found
    )


def main(scenes: Annotated[int, typer.Option(min=1, help="Scenes that no network has learnt from")] = 1000) -> None:
    """Measure the bundled networks through manifests/shapes.yaml."""
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(scenes, Path(folder))
    table = Table("measured", "figure", title=f"{scenes:,} scenes")
    for field in fields(figures):
        table.add_row(field.name, f"{getattr(figures, field.name):.4f}")
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
