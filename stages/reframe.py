"""Reframe: a part of the picture of a given shape, around the person or else the largest thing, in its place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
from pydantic import Field
from typing_extensions import override

from manifests.record import Annotation, Box, Control, Face, Picture, Region, Subject
from stages.annotated import box_on
from stages.base import Context, Drop, Fail, Params, Stage
from stages.cutting import window_of
from stages.faces import is_person
from stages.framing import Frame, place_frame
from stages.geometry import clip
from stages.head_geometry import holds_centre
from stages.pixels import resize, write_jpeg
from stages.web_image import open_image


@dataclass(frozen=True, slots=True, kw_only=True)
class ReframeIn:
    """What ``reframe`` reads; subjects, controls and regions only to make sure that none has its place yet."""

    original: bytes
    original_width: int
    original_height: int
    image: Picture
    annotations: tuple[Annotation, ...]
    faces: tuple[Face, ...]
    subjects: tuple[Subject, ...] | None
    controls: tuple[Control, ...]
    regions: tuple[Region, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReframeOut:
    """What ``reframe`` writes: all that has a place in the picture. ``original`` is a part of what was fetched."""

    original: bytes
    original_width: int
    original_height: int
    image: Picture
    annotations: tuple[Annotation, ...]
    faces: tuple[Face, ...]


class ReframeParams(Params):
    """What a manifest may set on ``reframe``."""

    aspect: float = Field(1.0, ge=0.1, le=10, description="Width / height of the part that is kept.")
    min_visible: float = Field(
        0.3, ge=0, le=1, description="Annotations and faces with less of their box's area in the part are left out."
    )
    jpeg_quality: int = Field(95, ge=1, le=100, description="libjpeg's quality of the image and the original's part.")


class Reframe(Stage[ReframeIn, ReframeOut]):
    """Cut the image, and the original with it, to a shape: the largest part that fits, around the person.

    In the middle is the largest box of a person in the metadata, else the largest face, else the metadata's largest
    box, else the middle of the picture; the face is wholly in the part if it fits. The image's scale stays.

    MUMU crops its real images on the person, as well as it can (section 3); it does not say how.
    """

    In, Out, Params = ReframeIn, ReframeOut, ReframeParams
    reasons: ClassVar[Mapping[str, str]] = {
        "comes_too_late": "Subjects have boxes, or there are controls or regions; reframe comes before their stages.",
    }

    def __init__(self, params: ReframeParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: ReframeParams, context: Context) -> Self:
        return cls(params)

    @override
    def process(self, batch: Sequence[ReframeIn]) -> list[ReframeOut | Drop | Fail]:
        return [self._reframe(record) for record in batch]

    def _reframe(self, record: ReframeIn) -> ReframeOut | Fail:
        if record.controls or record.regions or any(subject.box for subject in record.subjects or ()):
            return Fail("comes_too_late")
        focus, face = focus_of(record)
        window = place_frame(record.image.width, record.image.height, self.params.aspect, focus, face)
        if (window.width, window.height) == (record.image.width, record.image.height):
            return _whole(record)
        part = window_of(record, Box(x0=window.x0, y0=window.y0, x1=window.x1, y1=window.y1))
        frame = Frame(window, part, record.original_width, record.original_height, self.params.min_visible)
        return self._cut(record, frame)

    def _cut(self, record: ReframeIn, frame: Frame) -> ReframeOut:
        original = open_image(record.original, record.original_width * record.original_height)
        pixels = np.ascontiguousarray(original[frame.original.slices])
        image = resize(pixels, frame.image.width, frame.image.height)
        return ReframeOut(
            original=write_jpeg(pixels, self.params.jpeg_quality).data,
            original_width=frame.original.width,
            original_height=frame.original.height,
            image=write_jpeg(image, self.params.jpeg_quality),
            annotations=tuple(filter(None, map(frame.annotation, record.annotations))),
            faces=tuple(filter(None, map(frame.face, record.faces))),
        )


def focus_of(record: ReframeIn) -> tuple[Box, Box | None]:
    """What the picture is about, and its face, in pixels of the image; without anything its middle."""
    image = record.image
    boxes = [(annotation, box_on(image, annotation)) for annotation in record.annotations if not annotation.is_crowd]
    people = [box for annotation, box in boxes if box and is_person(annotation)]
    others = [box for _, box in boxes if box]
    person = max(people, key=lambda box: box.area, default=None)
    faces = [box for face in record.faces if (box := clip(face.box, image.width, image.height))]
    face = max(
        (box for box in faces if not person or holds_centre(person, box)), key=lambda box: box.area, default=None
    )
    whole = Box(x0=0, y0=0, x1=image.width, y1=image.height)
    return person or face or max(others, key=lambda box: box.area, default=whole), face


def _whole(record: ReframeIn) -> ReframeOut:
    return ReframeOut(
        original=record.original,
        original_width=record.original_width,
        original_height=record.original_height,
        image=record.image,
        annotations=record.annotations,
        faces=record.faces,
    )
