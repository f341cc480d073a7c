"""How well stages without learnt weights, and faces, do on photographs with COCO's annotations.

``python -m benchmarks.photos FOLDER``, where FOLDER holds ``images/``, ``captions.json``, ``instances.json`` and
``person_keypoints.json`` in COCO's format.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from manifests.dag import CocoSource
from manifests.record import Annotation, Box, Face, Picture, Point, Record
from pipeline.sources import open_source
from pipeline.sources.base import Unit
from stages.annotated import box_on
from stages.base import Context
from stages.caption import clean
from stages.coco_names import COCO_WORDS
from stages.faces import Faces, FacesIn, FacesOut, FacesParams
from stages.grabcut import GrabCutParams, grab_cut, only_inside
from stages.head_geometry import head_by_face, holds_centre
from stages.heads import HeadsParams
from stages.masks import BoolArray, decode_mask, resize_mask
from stages.phrases import Phrases, PhrasesIn, PhrasesOut, PhrasesParams
from stages.pixels import Pixels, write_jpeg
from stages.web_image import WebImage

_MIN_SHARE = 0.01  # of the picture, that an object covers to be measured

_HEAD: tuple[str, ...] = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")

Figures: TypeAlias = Iterator[tuple[str, str]]
"""Lines of the table: what is measured, and how much."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph with what is known of it: the picture at full size, its captions' records, its objects."""

    pixels: Pixels
    records: tuple[Record, ...]

    @property
    def objects(self) -> tuple[Annotation, ...]:
        """Everything that was outlined, but for crowds."""
        return tuple(part for part in self.records[0].annotations if part.mask and not part.is_crowd)


def read_photos(folder: Path) -> list[Photo]:
    """All photographs of a folder in COCO's format, each with all its captions."""
    source = open_source(
        CocoSource(
            kind="coco",
            images=str(folder / "images"),
            captions=str(folder / "captions.json"),
            instances=str(folder / "instances.json"),
            keypoints=str(folder / "person_keypoints.json"),
            captions_per_image=5,
        )
    )
    rows = [row for number, part in enumerate(source.parts) for row in source.read(Unit(0, number, 0, part.rows))]
    by_photo: dict[str | None, list[Record]] = {}
    for row in rows:
        by_photo.setdefault(row.record.sha256, []).append(row.record)
    return [_photo(records) for records in by_photo.values()]


def _photo(records: Sequence[Record]) -> Photo:
    original = records[0].original
    assert original, "the source reads pictures"
    return Photo(WebImage(original, 10**8).decode(None).pixels, tuple(records))


def measure_phrases(photos: Sequence[Photo]) -> Figures:
    """Of the objects that were outlined and whose word stands in a caption, how many became a subject."""
    stage = Phrases.load(PhrasesParams(unique="none"), Context())
    named = found = 0
    for photo in photos:
        categories = {part.phrase for part in photo.objects}
        for record in photo.records:
            caption = clean(record.alt_text or "").text
            outcome = stage.process([PhrasesIn(caption=caption, dropped_subjects=())])[0]
            heads = {subject.head for subject in outcome.subjects} if isinstance(outcome, PhrasesOut) else set()
            for category in categories:
                words = {category, *COCO_WORDS.get(category, ())}
                if words & set(caption.lower().replace(",", " ").replace(".", " ").split()):
                    named += 1
                    found += bool(heads & words)
    yield "objects named in a caption by one word that became a subject", f"{found} of {named} ({found / named:.1%})"


def measure_grab_cut(photos: Sequence[Photo]) -> Figures:
    """Overlap of GrabCut's masks with the outlines, from true boxes; beside a filled ellipse."""
    params = GrabCutParams()
    cuts: list[float] = []
    ellipses: list[float] = []
    for photo in track(photos, "GrabCut", console=Console(stderr=True)):
        for box, truth in _large_objects(photo):
            cut = params.clean(only_inside(grab_cut(photo.pixels, box, params, seed=0), box))
            cuts.append(overlap(cut, truth))
            ellipses.append(overlap(_ellipse(box, truth.shape), truth))
    yield "objects of at least 1 % of the picture", f"{len(cuts)}"
    yield "GrabCut, mean IoU with the outline", f"{np.mean(cuts):.3f}"
    yield "GrabCut, median IoU", f"{np.median(cuts):.3f}"
    yield "filled ellipse, mean IoU", f"{np.mean(ellipses):.3f}"


def _large_objects(photo: Photo) -> Iterator[tuple[Box, BoolArray]]:
    height, width = photo.pixels.shape[:2]
    picture = Picture(format="jpg", width=width, height=height, data=b"")
    for part in photo.objects:
        box = box_on(picture, part)
        truth = decode_mask(resize_mask(part.mask, height, width)) if part.mask else np.zeros((height, width), bool)
        if box and truth.mean() >= _MIN_SHARE:
            yield box, truth


def overlap(a: BoolArray, b: BoolArray) -> float:
    """Intersection over union of two masks; 1 of two empty ones."""
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else 1.0


def _ellipse(box: Box, shape: tuple[int, ...]) -> BoolArray:
    y, x = np.ogrid[: shape[0], : shape[1]]
    across, down = (box.x1 - box.x0) / 2, (box.y1 - box.y0) / 2
    inside: BoolArray = ((x + 0.5 - box.x0 - across) / across) ** 2 + ((y + 0.5 - box.y0 - down) / down) ** 2 <= 1
    return inside


def measure_faces(photos: Sequence[Photo]) -> Figures:
    """Faces by MTCNN and by keypoints, and how much of a head's keypoints the head's box around each holds."""
    for backend in ("mtcnn", "keypoints"):
        stage = Faces.load(FacesParams(backend=backend, min_score=0.7, min_face=12), Context())
        people = matched = inside = points = 0
        for photo in track(photos, f"faces by {backend}", console=Console(stderr=True)):
            faces = _faces(stage, photo)
            for person in photo.records[0].annotations:
                head = _head_points(person, photo)
                if not head or person.is_crowd:
                    continue
                people += 1
                box, face = _person(person, photo), next((f for f in faces if _holds(f.box, head["nose"])), None)
                if face and box and holds_centre(box, face.box):
                    matched += 1
                    around = head_by_face(face.box, HeadsParams().growth, box)
                    points += len(head)
                    inside += sum(_holds(around, point) for point in head.values())
        yield f"people whose nose is in a face by {backend}", f"{matched} of {people}"
        share = f" ({inside / points:.1%})" if points else ""
        yield f"keypoints of their heads inside the head's box, by {backend}", f"{inside} of {points}{share}"


def _faces(stage: Faces, photo: Photo) -> tuple[Face, ...]:
    record, (height, width) = photo.records[0], photo.pixels.shape[:2]
    assert record.original
    (found,) = stage.process(
        [
            FacesIn(
                image=write_jpeg(photo.pixels, 95),
                original=record.original,
                original_width=width,
                original_height=height,
                annotations=record.annotations,
            )
        ]
    )
    return found.faces if isinstance(found, FacesOut) else ()


def _head_points(person: Annotation, photo: Photo) -> dict[str, Point]:
    """Where a person's nose, eyes and ears are; nothing if the nose is not seen."""
    height, width = photo.pixels.shape[:2]
    seen = {point.name: Point(x=point.x * width, y=point.y * height) for point in person.keypoints}
    head = {name: seen[name] for name in _HEAD if name in seen}
    return head if "nose" in head else {}


def _person(person: Annotation, photo: Photo) -> Box | None:
    height, width = photo.pixels.shape[:2]
    return box_on(Picture(format="jpg", width=width, height=height, data=b""), person)


def _holds(box: Box, point: Point) -> bool:
    return box.x0 <= point.x < box.x1 and box.y0 <= point.y < box.y1


MEASURES: dict[str, Callable[[Sequence[Photo]], Figures]] = {
    "phrases": measure_phrases,
    "grabcut": measure_grab_cut,
    "faces": measure_faces,
}
"""What can be measured, by name."""


def main(
    folder: Annotated[Path, typer.Argument(help="Folder with images/, captions.json, instances.json")],
    only: Annotated[list[str] | None, typer.Option(help=f"Measure only this: {', '.join(MEASURES)}")] = None,
) -> None:
    """Measure stages on photographs with COCO's annotations."""
    photos = read_photos(folder)
    table = Table("measured", "figure", title=f"{len(photos)} photographs")
    for name in only or MEASURES:
        for line in MEASURES[name](photos):
            table.add_row(*line)
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
