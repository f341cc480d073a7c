"""The objects of a COCO data set: boxes, masks and keypoints in ``instances`` and ``person_keypoints`` JSON."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from manifests.files import AnyPath
from manifests.record import Annotation, Keypoint, Mask
from pipeline.sources.annotations import clip_box
from pipeline.sources.base import SourceError
from stages.masks import mask_from_coco

ModelT = TypeVar("ModelT", bound=BaseModel)


def parse_json(model: type[ModelT], data: bytes, path: AnyPath, kind: str) -> ModelT:
    """The content of a JSON file of a kind: captions, instances, keypoints.

    Raises:
        SourceError: If it is not of that form, saying where.
    """
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise SourceError(
            f"{path}: {place}: {first['msg']}, got {first['input']!r:.80}; give COCO's JSON of {kind} there"
        ) from None


class _Object(BaseModel):
    id: int
    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    segmentation: Any = None
    iscrowd: bool = False
    keypoints: list[float] = []


class _Category(BaseModel):
    id: int
    name: str
    keypoints: list[str] = []


class _File(BaseModel):
    annotations: list[_Object]
    categories: list[_Category]


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of each image by its id, in the order of theirs, and the categories by id."""

    by_image: dict[int, list[_Object]]
    categories: dict[int, _Category]

    def annotations(self, image: int, width: int | None, height: int | None) -> tuple[Annotation, ...]:
        """The objects of an image; none if its size is not said, and none whose box has no area in it."""
        if not (width and height):
            return ()
        found = (self._annotation(thing, width, height) for thing in self.by_image.get(image, ()))
        return tuple(annotation for annotation in found if annotation)

    def _annotation(self, thing: _Object, width: int, height: int) -> Annotation | None:
        x, y, across, down = thing.bbox
        box = clip_box((x / width, y / height, (x + across) / width, (y + down) / height), float("inf"))
        if box is None:
            return None
        category = self.categories[thing.category_id]
        return Annotation(
            phrase=category.name,
            x0=box[0],
            y0=box[1],
            x1=box[2],
            y1=box[3],
            mask=_mask(thing.segmentation, height, width),
            is_crowd=thing.iscrowd,
            keypoints=_keypoints(category.keypoints, thing.keypoints, width, height),
        )


def read_objects(paths: Sequence[AnyPath], contents: Sequence[bytes]) -> Objects:
    """What files of objects hold. Of an object that stands in several, as people with keypoints do, the last counts.

    Raises:
        SourceError: If one is no COCO JSON, or they contradict themselves or each other.
    """
    things: dict[int, _Object] = {}
    categories: dict[int, _Category] = {}
    for path, data in zip(paths, contents, strict=True):
        file = parse_json(_File, data, path, "instances or keypoints")
        for category in file.categories:
            if (other := categories.get(category.id, category)).name != category.name:
                raise SourceError(f"{path}: category {category.id} is {category.name!r}, in {paths[0]} {other.name!r}")
            categories[category.id] = category
        for thing in file.annotations:
            if thing.category_id not in categories:
                raise SourceError(
                    f"{path}: annotation {thing.id} is of category {thing.category_id}, which is not listed"
                )
            things[thing.id] = thing
    by_image = defaultdict(list)
    for _, thing in sorted(things.items()):
        by_image[thing.image_id].append(thing)
    return Objects(dict(by_image), categories)


def _mask(segmentation: Any, height: int, width: int) -> Mask | None:
    """The object's mask; ``None`` where there is none or it is damaged."""
    if not segmentation:
        return None
    try:
        return mask_from_coco(segmentation, height, width)
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError):
        return None


def _keypoints(names: Sequence[str], numbers: Sequence[float], width: int, height: int) -> tuple[Keypoint, ...]:
    """The labelled keypoints: triples of a pixel's column and row, and 1 (hidden) or 2; 0 says not labelled.

    A list that does not go with the names is damaged and left out. Half a pixel is added, for the pixel's middle.
    """
    if len(numbers) != 3 * len(names):
        return ()
    triples = zip(names, numbers[0::3], numbers[1::3], numbers[2::3], strict=True)
    return tuple(
        Keypoint(name=name, x=(x + 0.5) / width, y=(y + 0.5) / height, is_visible=label == 2)
        for name, x, y, label in triples
        if label in (1, 2) and 0 <= x < width and 0 <= y < height
    )
