"""A COCO-format data set on disk: captions, boxes and masks in JSON beside a folder of images.

Rows are pairs of an image and one of its captions: images in the order of their ids, captions in that of theirs. An
image without caption is one row without ``alt_text``. Captions and objects of images that are not listed are ignored.

The source sent to workers holds no annotation: each worker parses the JSON once.
"""

import hashlib
from array import array
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from manifests import dag
from manifests.record import Annotation, Mask, Row
from pipeline.sources.annotations import clip_box
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.paths import folder, size_inside
from pipeline.sources.rows import load_picture, make_row, reasons
from stages.masks import mask_from_coco


class _Image(BaseModel):
    id: int
    file_name: str
    width: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    height: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    coco_url: str | None = None


class _Caption(BaseModel):
    id: int
    image_id: int
    caption: str


class _Captions(BaseModel):
    images: list[_Image]
    annotations: list[_Caption]


class _Object(BaseModel):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    segmentation: Any = None
    iscrowd: bool = False


class _Category(BaseModel):
    id: int
    name: str


class _Instances(BaseModel):
    annotations: list[_Object]
    categories: list[_Category]


@dataclass(frozen=True, slots=True)
class _Files:
    """The JSON files, as absolute paths, how to read them, and the digest of what they held when planned."""

    captions: str
    instances: str | None
    captions_per_image: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Index:
    """What the JSON files say: rows in order, and by image the objects in order."""

    rows: list[tuple[_Image, str | None]]
    objects: dict[int, list[_Object]]
    categories: dict[int, str]


class Coco(Source):
    """Images of a COCO data set with their captions; its one part is the captions file."""

    reasons = reasons("missing_file", "unsafe_path")

    def __init__(self, config: dag.CocoSource) -> None:
        self._root = folder(config.images)
        captions = str(Path(config.captions).absolute())
        instances = None if config.instances is None else str(Path(config.instances).absolute())
        contents = _digest(_read(captions, instances))
        self._files = _Files(captions, instances, config.captions_per_image, contents)
        index = _load(self._files)
        if not index.rows:
            raise SourceError(f"{config.captions}: lists no images; nothing to do")
        digest = hashlib.sha256(f"{contents} {config.captions_per_image}\n".encode())
        self._sizes = array("q", (size_inside(self._root, image.file_name) for image, _ in index.rows))
        for size in self._sizes:
            digest.update(f"{size}\n".encode())
        self.parts = (Part(config.captions, len(index.rows), digest.hexdigest()),)
        self.gives = _gives(index)

    def read(self, unit: Unit) -> list[Row]:
        """The unit's rows with their files' bytes; or failed as ``missing_file`` or ``unsafe_path``.

        Raises:
            SourceError: If a file is no longer what was planned.
        """
        index = _load(self._files)
        return [self._row(index, number) for number in range(unit.start, unit.stop)]

    def _row(self, index: _Index, number: int) -> Row:
        image, caption = index.rows[number]
        values = {
            "source_id": image.id,
            "url": image.coco_url,
            "alt_text": caption,
            "stated_width": image.width,
            "stated_height": image.height,
        }
        row = make_row(self.parts[0], number, values)
        objects = (_annotation(image, thing, index.categories) for thing in index.objects.get(image.id, ()))
        annotations = tuple(annotation for annotation in objects if annotation)
        row = replace(row, record=replace(row.record, annotations=annotations))
        return load_picture(row, self._root, image.file_name, self._sizes[number])


def _gives(index: _Index) -> frozenset[str]:
    said = {
        "url": any(image.coco_url for image, _ in index.rows),
        "alt_text": any(caption is not None for _, caption in index.rows),
        "stated_width": any(image.width for image, _ in index.rows),
        "stated_height": any(image.height for image, _ in index.rows),
        "annotations": any(image.id in index.objects for image, _ in index.rows),
    }
    return frozenset({"source_id", "original", "sha256"} | {name for name, is_said in said.items() if is_said})


def _read(*paths: str | None) -> list[bytes]:
    """What the files hold, those that are given."""
    contents = []
    for path in filter(None, paths):
        try:
            contents.append(Path(path).read_bytes())
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror}; give a COCO JSON file") from None
    return contents


def _digest(contents: list[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in contents)).hexdigest()


ModelT = TypeVar("ModelT", bound=BaseModel)


def _parse(model: type[ModelT], data: bytes, path: str) -> ModelT:
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise SourceError(f"{path}: {place}: {first['msg']}, got {first['input']!r:.80}; not COCO JSON") from None


@lru_cache(maxsize=1)
def _load(files: _Files) -> _Index:
    """What the files say, kept for the next unit.

    Raises:
        SourceError: If a file is unreadable, no COCO JSON, contradicts itself, or has changed.
    """
    contents = _read(files.captions, files.instances)
    if _digest(contents) != files.digest:
        raise SourceError(f"{files.captions}: has changed since the run was planned; start a new run")
    captions = _parse(_Captions, contents[0], files.captions)
    images = {image.id: image for image in captions.images}
    if len(images) < len(captions.images):
        raise SourceError(f"{files.captions}: {len(captions.images) - len(images)} image ids stand twice")
    texts = defaultdict(list)
    for entry in sorted(captions.annotations, key=lambda entry: entry.id):
        texts[entry.image_id].append(entry.caption)
    rows = [
        (image, text)
        for _, image in sorted(images.items())
        for text in texts.get(image.id, [None])[: files.captions_per_image]
    ]
    if files.instances is None:
        return _Index(rows, {}, {})
    instances = _parse(_Instances, contents[1], files.instances)
    categories = {category.id: category.name for category in instances.categories}
    objects = defaultdict(list)
    for thing in sorted(instances.annotations, key=lambda thing: thing.id):
        if thing.category_id not in categories:
            raise SourceError(
                f"{files.instances}: annotation {thing.id} is of category {thing.category_id}, which is not listed"
            )
        objects[thing.image_id].append(thing)
    return _Index(rows, dict(objects), categories)


def _annotation(image: _Image, thing: _Object, categories: dict[int, str]) -> Annotation | None:
    """The object as an annotation; ``None`` if its box has no area in the picture or the picture's size is not said."""
    if not (image.width and image.height):
        return None
    x, y, width, height = thing.bbox
    corners = (x / image.width, y / image.height, (x + width) / image.width, (y + height) / image.height)
    box = clip_box(corners, float("inf"))
    if box is None:
        return None
    x0, y0, x1, y1 = box
    mask = _mask(thing.segmentation, image.height, image.width)
    phrase = categories[thing.category_id]
    return Annotation(phrase=phrase, x0=x0, y0=y0, x1=x1, y1=y1, mask=mask, is_crowd=thing.iscrowd)


def _mask(segmentation: Any, height: int, width: int) -> Mask | None:
    """The object's mask; ``None`` where there is none or it is damaged."""
    if not segmentation:
        return None
    try:
        return mask_from_coco(segmentation, height, width)
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError):
        return None
