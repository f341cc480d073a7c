"""Heads: the faces of the people among the subjects, with hair and ears, as reference images of their own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field
from typing_extensions import override

from manifests.record import Box, Face, Picture, Subject
from stages.base import Context, Drop, Fail, Stage
from stages.coco_names import PERSON_WORDS
from stages.cutting import CutParams, cut, window_of
from stages.geometry import clip, grow
from stages.head_geometry import centre, head_by_face, holds_centre
from stages.masks import decode_mask


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsIn:
    """What ``heads`` reads."""

    original: bytes
    original_width: int
    original_height: int
    image: Picture
    faces: tuple[Face, ...]
    subjects: tuple[Subject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsOut:
    """What ``heads`` writes."""

    subjects: tuple[Subject, ...]


Share = Annotated[float, Field(ge=0, le=2)]


class HeadsParams(CutParams):
    """Which subjects are people, how large a head is, and how it is cut."""

    person_words: tuple[str, ...] | None = Field(
        None,
        description="Head nouns of subjects that are people. Lower case; null is the built-in list of about 130: "
        "person, man, woman, child, player …",
    )
    growth: tuple[Share, Share, Share] = Field(
        (0.3, 0.5, 0.15),  # ours: holds 98 % of the eyes, noses and ears that COCO marks on 28 people
        description="From a face to its head: shares of the face's width added left and right, and of its height "
        "added above and below.",
    )
    style: Literal["box", "segmented"] = Field(
        "box", description="The head's whole box, or the subject's mask over a plain fill."
    )
    margin: float = Field(0, ge=0, le=1, description="Share of the head's sides added to its crop on every side.")
    min_side: int = Field(
        32, ge=1, description="Heads narrower or lower than this, in pixels of the original, are left out."
    )


class Heads(Stage[HeadsIn, HeadsOut]):
    """Give every subject that is one person and shows a face the box of its head, and cut the head from the original.

    MUMU puts the head in place of the person in 70 % of its prompts.
    """

    In, Out, Params = HeadsIn, HeadsOut, HeadsParams
    reasons: ClassVar[Mapping[str, str]] = {
        "no_mask": "Segmented heads need a mask of every person with a face, and one has none.",
    }
    reads_of_subjects = frozenset({"head", "is_plural", "box"})
    writes_to_subjects = frozenset({"head_box", "head_crop"})

    def __init__(self, params: HeadsParams) -> None:
        self.params = params
        self._people = PERSON_WORDS if params.person_words is None else frozenset(params.person_words)

    @override
    @classmethod
    def load(cls, params: HeadsParams, context: Context) -> Self:
        return cls(params)

    @override
    def process(self, batch: Sequence[HeadsIn]) -> list[HeadsOut | Drop | Fail]:
        return [self._heads(record) for record in batch]

    def _heads(self, record: HeadsIn) -> HeadsOut | Fail:
        people = {n: s for n, s in enumerate(record.subjects) if s.head in self._people and not s.is_plural}
        given = assign_faces(people, record.faces)
        subjects = [
            replace(subject, head_box=None, head_crop=None) if number in people else subject
            for number, subject in enumerate(record.subjects)
        ]
        for number, face in given.items():
            if self.params.style == "segmented" and subjects[number].mask is None:
                phrase = subjects[number].phrase
                return Fail("no_mask", f"{phrase!r} has no mask; put a segment node before heads, or set style: box")
            subjects[number] = self._with_head(record, subjects[number], face)
        return HeadsOut(subjects=tuple(subjects))

    def _with_head(self, record: HeadsIn, subject: Subject, face: Face) -> Subject:
        assert subject.box is not None, "promised by assign_faces"
        head = clip(head_by_face(face.box, self.params.growth, subject.box), record.image.width, record.image.height)
        if head is None:
            return subject
        window = window_of(record, grow(head, self.params.margin))
        if min(window.width, window.height) < self.params.min_side:
            return subject
        mask = subject.mask if self.params.style == "segmented" else None
        return replace(subject, head_box=head, head_crop=cut(record, window, self.params, mask))


def assign_faces(people: Mapping[int, Subject], faces: Sequence[Face]) -> dict[int, Face]:
    """Whose face each is: at most one a subject, and none to two.

    A face may be a subject's if its centre is on the subject's mask or, where there is none, in its box. Pairs are
    formed best first: the nearer the face is to the middle of the box's upper edge, in shares of the box's sides. So
    of a man with a child on his arm, in whose box both faces are, the child gets its own.

    Args:
        people: Subjects by number; those without a box get none.
        faces: Of the same picture.
    """
    pairs = sorted(_pairs(people, faces))
    given: dict[int, Face] = {}
    taken: set[int] = set()
    for pair in pairs:
        if pair.subject not in given and pair.face not in taken:
            given[pair.subject] = faces[pair.face]
            taken.add(pair.face)
    return given


class _Pair(NamedTuple):
    """A subject and a face that may be its own, by number; the smaller, the better."""

    distance: float
    subject: int
    face: int


def _pairs(people: Mapping[int, Subject], faces: Sequence[Face]) -> Iterator[_Pair]:
    for number, subject in people.items():
        mask = decode_mask(subject.mask) if subject.mask else None
        for place, face in enumerate(faces):
            x, y = centre(face.box)
            is_on_mask = mask is None or bool(mask[int(y), int(x)])
            if subject.box and holds_centre(subject.box, face.box) and is_on_mask:
                yield _Pair(_distance_from_top(subject.box, x, y), number, place)


def _distance_from_top(box: Box, x: float, y: float) -> float:
    """From the middle of the upper edge, in shares of the box's sides."""
    return abs(x - centre(box)[0]) / (box.x1 - box.x0) + (y - box.y0) / (box.y1 - box.y0)
