"""Which subjects are fit to be reference images, and which records have enough of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import override

from manifests.record import DroppedSubject, Picture, Subject
from stages.base import Context, Drop, Fail, Params, Stage
from stages.coco_names import PERSON_WORDS
from stages.geometry import area_share, aspect, containment
from stages.masks import mask_area
from stages.pixels import read_picture


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectIn:
    """What ``select`` reads."""

    image: Picture
    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectOut:
    """What ``select`` writes."""

    subjects: tuple[Subject, ...]
    dropped_subjects: tuple[DroppedSubject, ...]


class SelectParams(Params):
    """What a manifest may set on ``select``.

    The defaults are λ-ECLIPSE's, which follow Subject-Diffusion's code where the paper's wording is open: "ratio" there
    is the box's share of the image.
    """

    min_score: float = Field(0.3, ge=0, le=1, description="Least score of a box; boxes without one pass.")
    min_area: float = Field(0.08, ge=0, le=1, description="Least share of the image a box covers.")
    max_area: float = Field(0.7, gt=0, le=1, description="Largest share of the image a box covers.")
    min_side: float = Field(32, ge=0, description="Least width and height of a box, in pixels of the image.")
    min_pixels: float = Field(
        0, ge=0, description="Least area of a box, in square pixels of the image; MUMU has 150 x 150 = 22500."
    )
    min_aspect: float = Field(0.3, gt=0, description="Least width / height of a box.")
    max_aspect: float = Field(3, gt=0, description="Largest width / height of a box.")
    min_mask_share: float = Field(0.4, ge=0, le=1, description="Least share of the box its mask fills, if it has one.")
    max_overlap: float = Field(
        0.8, ge=0, le=1, description="Boxes that share more than this part of the smaller one are duplicates."
    )
    min_subjects: int = Field(1, ge=0, description="Fewer subjects than this drop the record.")
    max_subjects: int = Field(4, ge=1, description="More subjects than this are too many.")
    over_limit: Literal["keep_best", "drop_record"] = Field(
        "keep_best", description="With too many subjects: keep the best, or drop the record as λ-ECLIPSE does."
    )
    prefer: Literal["none", "people"] = Field(
        "none", description="Whom to keep first where there are too many; people as in MUMU, which favours them."
    )
    max_boxes: int | None = Field(
        None, ge=1, description="More subjects than this, before any rule, drop the record; λ-ECLIPSE has 8."
    )
    max_background_white: float | None = Field(
        None, ge=0, le=1, description="Largest share of near-white pixels, every channel above 0.9; λ-ECLIPSE has 0.1."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for low, high in (
            ("min_area", "max_area"),
            ("min_aspect", "max_aspect"),
            ("min_subjects", "max_subjects"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} {getattr(self, low)} is above {high} {getattr(self, high)}: nothing would pass"
                )
        return self


class Select(Stage[SelectIn, SelectOut]):
    """Keep the subjects that pass every rule, in their order.

    Of duplicates, and of too many, the better stays: the preferred, then the higher score (none counts as 1, as it
    comes from annotations), then the larger box, then the earlier one.
    """

    In, Out, Params = SelectIn, SelectOut, SelectParams
    reasons: ClassVar[Mapping[str, str]] = {
        "low_score": "The box's score is below `min_score`.",
        "area_too_small": "The box covers less of the image than `min_area`.",
        "area_too_large": "The box covers more of the image than `max_area`.",
        "few_pixels": "The box has fewer pixels than `min_pixels`.",
        "side_too_small": "The box is narrower or lower than `min_side`.",
        "bad_aspect": "The box's width / height is outside `min_aspect` to `max_aspect`.",
        "sparse_mask": "The mask fills less of its box than `min_mask_share`.",
        "duplicate_box": "A better subject covers the same place.",
        "over_limit": "There are `max_subjects` better ones.",
        "no_subject_left": "No subject passed.",
        "too_few_subjects": "Fewer than `min_subjects` passed.",
        "too_many_subjects": "More than `max_subjects` passed.",
        "too_many_boxes": "There are more than `max_boxes` subjects, before any rule.",
        "white_background": "More of the image is near white than `max_background_white`.",
    }
    reads_of_subjects = frozenset({"head", "box"})

    def __init__(self, params: SelectParams) -> None:
        self.params = params

    @override
    @classmethod
    def load(cls, params: SelectParams, context: Context) -> Self:
        return cls(params)

    @override
    def process(self, batch: Sequence[SelectIn]) -> list[SelectOut | Drop | Fail]:
        return [self._too_many(record) or self._select(record) for record in batch]

    def _too_many(self, record: SelectIn) -> Drop | None:
        p, count = self.params, len(record.subjects)
        if p.max_boxes is not None and count > p.max_boxes:
            return Drop("too_many_boxes", f"{count} subjects, max_boxes is {p.max_boxes}")
        return None

    def _select(self, record: SelectIn) -> SelectOut | Drop:
        kept: list[Subject] = []
        dropped: list[DroppedSubject] = []
        for subject, reason in zip(record.subjects, self._verdicts(record), strict=True):
            if reason is None:
                kept.append(subject)
            else:
                dropped.append(DroppedSubject(phrase=subject.phrase, stage="select", reason=reason))
        out = SelectOut(subjects=tuple(kept), dropped_subjects=record.dropped_subjects + tuple(dropped))
        return self._wrong_count(len(kept), [subject.reason for subject in dropped]) or self._white(record) or out

    def _verdicts(self, record: SelectIn) -> list[str | None]:
        """For each subject, why it goes, or ``None``."""
        verdicts = [self._unfit(subject, record.image) for subject in record.subjects]
        kept: list[Subject] = []
        for number in sorted(range(len(verdicts)), key=lambda number: self._rank(record.subjects[number])):
            subject = record.subjects[number]
            if verdicts[number] is not None:
                continue
            if any(_overlap(subject, other) > self.params.max_overlap for other in kept):
                verdicts[number] = "duplicate_box"
            elif len(kept) == self.params.max_subjects:
                verdicts[number] = "over_limit"
            else:
                kept.append(subject)
        return verdicts

    def _rank(self, subject: Subject) -> tuple[float, ...]:
        """Sorts the better subject first."""
        assert subject.box is not None
        is_preferred = self.params.prefer == "people" and subject.head in PERSON_WORDS
        return -is_preferred, (-1.0 if subject.score is None else -subject.score), -subject.box.area

    def _unfit(self, subject: Subject, image: Picture) -> str | None:
        p, box = self.params, subject.box
        assert box is not None, "promised by reads_of_subjects"
        share = area_share(box, image.width, image.height)
        rules = {
            "low_score": subject.score is not None and subject.score < p.min_score,
            "area_too_small": share < p.min_area,
            "area_too_large": share > p.max_area,
            "few_pixels": box.area < p.min_pixels,
            "side_too_small": min(box.x1 - box.x0, box.y1 - box.y0) < p.min_side,
            "bad_aspect": not p.min_aspect <= aspect(box) <= p.max_aspect,
            "sparse_mask": subject.mask is not None and mask_area(subject.mask) / box.area < p.min_mask_share,
        }
        return next((reason for reason, broken in rules.items() if broken), None)

    def _wrong_count(self, kept: int, reasons: Sequence[str]) -> Drop | None:
        p, over = self.params, reasons.count("over_limit")
        if over and p.over_limit == "drop_record":
            return Drop("too_many_subjects", f"{kept + over} subjects passed, max_subjects is {p.max_subjects}")
        if kept >= p.min_subjects:
            return None
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(Counter(reasons).items()))
        message = (
            f"{kept} of {kept + len(reasons)} subjects passed, min_subjects is {p.min_subjects}; {counts or 'none'}"
        )
        return Drop("too_few_subjects" if kept else "no_subject_left", message)

    def _white(self, record: SelectIn) -> Drop | None:
        limit = self.params.max_background_white
        share = 0.0 if limit is None else _near_white(record.image)
        if limit is None or share <= limit:
            return None
        return Drop("white_background", f"{share:.3f} of the image is near white, max_background_white is {limit}")


def _overlap(a: Subject, b: Subject) -> float:
    assert a.box is not None and b.box is not None
    return containment(a.box, b.box)


def _near_white(image: Picture) -> float:
    """Share of pixels with every channel above 0.9."""
    return float(np.mean((read_picture(image) > 0.9 * 255).all(axis=2)))
