"""A COCO-format data set: captions, boxes, masks and keypoints in JSON beside a folder of images; also in a store.

Rows are pairs of an image and one of its captions: images in the order of their ids, captions in that of theirs. An
image without caption is one row without ``alt_text``. Captions and objects of images that are not listed are ignored.

The source sent to workers holds no annotation: each worker parses the JSON once.
"""

import hashlib
from array import array
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated

from pydantic import BaseModel, Field

from manifests import dag
from manifests.files import AnyPath
from manifests.record import Row
from pipeline.sources.base import Part, Source, SourceError, Unit
from pipeline.sources.coco_objects import Objects, parse_json, read_objects
from pipeline.sources.paths import absolute
from pipeline.sources.rows import load_picture, make_row, reasons
from pipeline.sources.trees import open_tree


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


@dataclass(frozen=True, slots=True)
class _Files:
    """The JSON files, as any worker finds them, how to read them, and the digest of what they held when planned.

    Of an object that stands in several of ``objects``, the last counts.
    """

    captions: AnyPath
    objects: tuple[AnyPath, ...]
    captions_per_image: int
    digest: str


@dataclass(frozen=True, slots=True)
class _Index:
    """What the JSON files say: the rows in order, and the objects."""

    rows: list[tuple[_Image, str | None]]
    objects: Objects


class Coco(Source):
    """Images of a COCO data set with their captions; its one part is the captions file."""

    reasons = reasons("missing_file", "unsafe_path")

    def __init__(self, config: dag.CocoSource) -> None:
        self._root = open_tree(config.images)
        captions = absolute(config.captions)
        objects = tuple(absolute(path) for path in (config.instances, config.keypoints) if path is not None)
        contents = _digest(_read(captions, *objects))
        self._files = _Files(captions, objects, config.captions_per_image, contents)
        index = _load(self._files)
        if not index.rows:
            raise SourceError(f"{config.captions}: lists no images; nothing to do")
        digest = hashlib.sha256(f"{contents} {config.captions_per_image}\n".encode())
        self._sizes = array("q", (self._root.size(image.file_name) for image, _ in index.rows))
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
        annotations = index.objects.annotations(image.id, image.width, image.height)
        row = replace(row, record=replace(row.record, annotations=annotations))
        return load_picture(row, self._root, image.file_name, self._sizes[number])


def _gives(index: _Index) -> frozenset[str]:
    said = {
        "url": any(image.coco_url for image, _ in index.rows),
        "alt_text": any(caption is not None for _, caption in index.rows),
        "stated_width": any(image.width for image, _ in index.rows),
        "stated_height": any(image.height for image, _ in index.rows),
        "annotations": any(image.id in index.objects.by_image for image, _ in index.rows),
    }
    return frozenset({"source_id", "original", "sha256"} | {name for name, is_said in said.items() if is_said})


def _read(*paths: AnyPath) -> list[bytes]:
    """What the files hold."""
    contents = []
    for path in paths:
        try:
            contents.append(path.read_bytes())
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror or error}; give a COCO JSON file") from None
    return contents


def _digest(contents: list[bytes]) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in contents)).hexdigest()


@lru_cache(maxsize=1)
def _load(files: _Files) -> _Index:
    """What the files say, kept for the next unit.

    Raises:
        SourceError: If a file is unreadable, no COCO JSON, contradicts itself, or has changed.
    """
    contents = _read(files.captions, *files.objects)
    if _digest(contents) != files.digest:
        raise SourceError(f"{files.captions}: has changed since the run was planned; start a new run")
    captions = parse_json(_Captions, contents[0], files.captions, "captions")
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
    return _Index(rows, read_objects(files.objects, contents[1:]))
