"""Faces: where they are, and each cut out at the original's resolution."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol, Self

from pydantic import Field, model_validator
from typing_extensions import override

from manifests.record import Annotation, Box, Face, Picture
from stages.annotated import box_on
from stages.base import Context, Drop, Fail, ModelRef, Stage
from stages.coco_names import PERSON_WORDS
from stages.cutting import CutParams, cut, window_of
from stages.geometry import clip, grow
from stages.head_geometry import face_by_keypoints
from stages.pixels import Pixels, read_picture

FACE_WORDS = frozenset({"face", "human face"})
"""What metadata calls the box of a face; "Human face" is Open Images' class."""


class FaceDetector(Protocol):
    """Finds faces."""

    def __call__(self, images: Sequence[Pixels]) -> list[list[Face]]:
        """The faces in each picture, without crops. Pictures do not influence each other."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FacesIn:
    """What ``faces`` reads."""

    original: bytes
    original_width: int
    original_height: int
    image: Picture
    annotations: tuple[Annotation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FacesOut:
    """What ``faces`` writes: the largest first."""

    faces: tuple[Face, ...]


class FacesParams(CutParams):
    """What finds the faces, and which records may have how many."""

    backend: Literal["mtcnn", "keypoints", "metadata"] = Field(
        "mtcnn",
        description="What finds the faces: the networks of MTCNN; nose, eyes and ears in the metadata (COCO's "
        "keypoints), without mouths and so without landmarks; or the metadata's boxes called face.",
    )
    model: str | None = Field(
        None,
        description="Folder with mtcnn's pnet.pt, rnet.pt and onet.pt; null: those in the package facenet-pytorch.",
    )
    min_score: float = Field(0.9, ge=0, le=1, description="Faces that score less are left out.")
    min_face: int = Field(
        20, ge=12, description="Faces narrower or lower than this, in pixels of the image, are left out."
    )
    max_faces: int | None = Field(None, ge=0, description="Only the so many largest faces are kept; null: all.")
    max_people: int | None = Field(
        None,
        ge=0,
        description="Drop records with more people: faces, or, if more, the metadata's boxes of people, where a crowd "
        "counts as two. MUMU's real images have 0 or 1.",  # MUMU, section 3
    )
    require_face: bool = Field(False, description="Drop records without a face.")
    margin: float = Field(0.2, ge=0, le=1, description="Share of the face's sides added to its crop on every side.")
    images_per_call: int = Field(
        1,
        ge=1,
        le=1024,
        description="Pictures of equal size that MTCNN's first network sees at once; calls with fewer are filled up, "
        "so more is only faster where most pictures have one size, on a GPU.",
    )
    patches_per_call: int = Field(
        64, ge=1, le=4096, description="Boxes that MTCNN's other networks see at once; filled up likewise."
    )

    @model_validator(mode="after")
    def _model_where_used(self) -> Self:
        if self.backend != "mtcnn" and self.model is not None:
            raise ValueError(f"backend {self.backend!r} takes no model")
        return self


class Faces(Stage[FacesIn, FacesOut]):
    """Find the faces in the image and cut each from the original, so that small ones keep their detail."""

    In, Out, Params = FacesIn, FacesOut, FacesParams
    reasons: ClassVar[Mapping[str, str]] = {
        "no_face": "No face was found, and require_face is set.",
        "too_many_people": "There are more people than max_people.",
    }

    def __init__(self, params: FacesParams, detector: FaceDetector | None = None) -> None:
        self.params = params
        self._detector = detector

    @override
    @classmethod
    def load(cls, params: FacesParams, context: Context) -> Self:
        return cls(params, _load(params, context.device) if params.backend == "mtcnn" else None)

    @override
    @classmethod
    def wants(cls, params: FacesParams) -> tuple[ModelRef, ...]:
        return (_model(params),) if params.backend == "mtcnn" else ()

    @override
    @classmethod
    def lives_on(cls, params: FacesParams) -> Mapping[str, str]:
        if params.backend == "mtcnn" or not params.require_face:
            return {}
        return {"annotations": "have faces found: params {backend: mtcnn}"}

    @override
    def process(self, batch: Sequence[FacesIn]) -> list[FacesOut | Drop | Fail]:
        if self._detector:
            found = self._detector([read_picture(record.image) for record in batch])
        else:
            rule = _by_keypoints if self.params.backend == "keypoints" else _by_name
            found = [rule(record) for record in batch]
        return [self._out(record, faces) for record, faces in zip(batch, found, strict=True)]

    def _out(self, record: FacesIn, found: Sequence[Face]) -> FacesOut | Drop:
        faces = self._fit(record, found)
        people = max(len(faces), count_people(record.annotations))
        if self.params.max_people is not None and people > self.params.max_people:
            return Drop("too_many_people", f"{people} people")
        if self.params.require_face and not faces:
            return Drop("no_face")
        return FacesOut(faces=tuple(self._cut(record, face) for face in faces[: self.params.max_faces]))

    def _fit(self, record: FacesIn, found: Sequence[Face]) -> list[Face]:
        """The faces that are sure and large enough, cut at the image's edges, the largest first."""
        faces = []
        for face in found:
            box = clip(face.box, record.image.width, record.image.height)
            if box and face.score >= self.params.min_score and _shorter_side(box) >= self.params.min_face:
                faces.append(replace(face, box=box))
        return sorted(faces, key=lambda face: (-face.box.area, face.box.xyxy))

    def _cut(self, record: FacesIn, face: Face) -> Face:
        window = window_of(record, grow(face.box, self.params.margin))
        return replace(face, crop=cut(record, window, self.params))


def count_people(annotations: Sequence[Annotation]) -> int:
    """How many people the metadata has boxes of; a crowd counts as two."""
    return sum(2 if annotation.is_crowd else 1 for annotation in filter(is_person, annotations))


def is_person(annotation: Annotation) -> bool:
    """Whether a box of the metadata is called a person, by the last word of its phrase."""
    return not PERSON_WORDS.isdisjoint(_words(annotation)[-1:])


def _words(annotation: Annotation) -> list[str]:
    return annotation.phrase.lower().split()


def _by_keypoints(record: FacesIn) -> list[Face]:
    image = record.image
    boxes = ((a, face_by_keypoints(a.keypoints, image.width, image.height)) for a in record.annotations)
    return [Face(box=box, score=_score(annotation)) for annotation, box in boxes if box]


def _by_name(record: FacesIn) -> list[Face]:
    named = (annotation for annotation in record.annotations if " ".join(_words(annotation)) in FACE_WORDS)
    boxes = ((annotation, box_on(record.image, annotation)) for annotation in named if not annotation.is_crowd)
    return [Face(box=box, score=_score(annotation)) for annotation, box in boxes if box]


def _score(annotation: Annotation) -> float:
    return 1.0 if annotation.score is None else min(annotation.score, 1.0)


def _shorter_side(box: Box) -> float:
    return min(box.x1 - box.x0, box.y1 - box.y0)


def _model(params: FacesParams) -> ModelRef:
    return ModelRef(name=params.model or "facenet-pytorch")


def _load(params: FacesParams, device: str) -> FaceDetector:
    from stages.models.memory import CallSize
    from stages.models.mtcnn import Mtcnn
    from stages.models.mtcnn_networks import load_networks

    proposer, refiner, decider = load_networks(_model(params), device)
    return Mtcnn(
        proposer=proposer,
        refiner=refiner,
        decider=decider,
        device=device,
        images=CallSize(params.images_per_call, "images_per_call"),
        patches=CallSize(params.patches_per_call, "patches_per_call"),
        min_side=params.min_face,
    )
