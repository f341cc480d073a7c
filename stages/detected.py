"""Subjects to boxes by a detector: thresholds, suppression, and who gets which box."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field

from manifests.record import Box, Span, Subject
from stages.base import Params
from stages.geometry import hull
from stages.grounded import GroundIn, Outcome
from stages.nms import Floats, Ints, suppress_labelled

if TYPE_CHECKING:
    from stages.models.detector import Detections

Phrasing: TypeAlias = Mapping[str, Sequence[int]]
"""The distinct phrases of a record as they are looked for, each with the subjects, by number, that have it."""


class DetectorParams(Params):
    """What a manifest may set on how a detector's boxes become subjects' boxes."""

    box_threshold: float = Field(
        0.25, ge=0, le=1, description="A detector's box counts if some phrase's score on it is higher."
    )
    text_threshold: float = Field(
        0.2, ge=0, le=1, description="A box that counts is of those phrases whose score on it is higher."
    )
    phrase_score: Literal["max", "mean"] = Field(
        "max", description="A phrase's score on a box: the highest of its tokens' probabilities, or their mean."
    )
    nms_iou: float = Field(
        0.5, ge=0, le=1, description="Boxes of one phrase that overlap a better one by more are the same thing."
    )
    shared_iou: float = Field(
        0.9,
        ge=0,
        le=1,
        description="Boxes of two phrases that overlap by more are the same thing, and go to the phrase that scores "
        "higher; where one phrase is part of the other, both keep theirs.",
    )
    plurals: Literal["hull", "best"] = Field(
        "hull", description="What a plural phrase gets of a detector: the box around all its boxes, or the best one."
    )
    max_boxes_per_phrase: int = Field(
        20, ge=1, le=900, description="A phrase with more boxes is about a crowd; its subjects are dropped."
    )


class _Scored(NamedTuple):
    box: Box
    score: float


def phrasing(subjects: Sequence[Subject]) -> dict[str, list[int]]:
    """The distinct phrases of subjects, in order, each with the numbers of the subjects that have it."""
    found: dict[str, list[int]] = {}
    for number, subject in enumerate(subjects):
        found.setdefault(" ".join(subject.phrase.lower().split()), []).append(number)
    return found


def by_detections(record: GroundIn, found: "Detections", params: DetectorParams) -> list[Outcome]:
    """Each subject with the box and score of what a detector found for it, or the reason that it has none.

    Of the boxes of a phrase a singular subject gets the best. Several subjects with one phrase ("a man and a man") get
    the best boxes there are, which are then dealt from left to right as a reader meets the words; if there are too few,
    the first subjects get them. A plural subject comes after those and gets all that is left, with their lowest score.

    Args:
        record: The subjects, in the caption's order.
        found: For their phrases, as :func:`phrasing` has them.
        params: The thresholds.
    """
    groups = phrasing(record.subjects)
    claims = _Claims.of(found, record, params)
    kept = claims.best(limits(record.subjects, groups, params))
    outcomes: list[Outcome] = ["not_grounded"] * len(record.subjects)
    for phrase, numbers in enumerate(groups.values()):
        boxes = kept[phrase]
        reason = found.unread.get(phrase) or claims.why_not(phrase, len(boxes), params)
        if reason:
            given: list[list[_Scored]] = [[] for _ in numbers]
        else:
            given = deal([record.subjects[number].is_plural for number in numbers], boxes, params.plurals)
        for number, mine in zip(numbers, given, strict=True):
            outcomes[number] = _grounded(record.subjects[number], mine) if mine else reason or "not_grounded"
    return outcomes


class _Claims(NamedTuple):
    """Boxes with a phrase each that they may be of, and by phrase, which had scores or boxes that are of no use."""

    boxes: Floats
    scores: Floats
    phrases: Ints
    is_bad: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, found: "Detections", record: GroundIn, params: DetectorParams) -> "_Claims":
        """What passes the thresholds, cut at the picture's edges."""
        image = record.image
        boxes = found.boxes.clip(0, (image.width, image.height, image.width, image.height))
        is_box = np.isfinite(boxes).all(axis=1) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
        scores = np.nan_to_num(found.scores)
        counts = scores.max(axis=1, initial=0) > params.box_threshold
        passed = counts[:, None] & (scores > params.text_threshold)
        is_bad = (passed & ~is_box[:, None]).any(axis=0) | np.isnan(found.scores).any(axis=0)
        rows, phrases = np.nonzero(passed & is_box[:, None])
        return cls(boxes[rows], scores[rows, phrases], phrases, is_bad)

    def best(self, limits: Floats) -> list[list[_Scored]]:
        """By phrase, its boxes after suppression, best first."""
        kept: list[list[_Scored]] = [[] for _ in limits]
        for row in suppress_labelled(self.boxes, self.scores, self.phrases, limits):
            x0, y0, x1, y1 = map(float, self.boxes[row])
            kept[self.phrases[row]].append(_Scored(Box(x0=x0, y0=y0, x1=x1, y1=y1), float(self.scores[row])))
        return kept

    def why_not(self, phrase: int, count: int, params: DetectorParams) -> str | None:
        """Why a phrase that kept ``count`` boxes gives its subjects none; ``None`` if it can."""
        if count > params.max_boxes_per_phrase:
            return "too_many_boxes"
        if count or (self.phrases == phrase).any():
            return None
        return "bad_box" if self.is_bad[phrase] else "low_score"


def limits(subjects: Sequence[Subject], groups: Phrasing, params: DetectorParams) -> Floats:
    """The overlap, for each two phrases, above which boxes of theirs are the same thing: (phrase, phrase).

    Phrases of which one is part of the other in the caption ("dog" in "dog with a hat") may share a box.
    """
    spans = [[subjects[number].span for number in numbers] for numbers in groups.values()]
    table = np.full((len(spans), len(spans)), params.shared_iou)
    for one, other in combinations(range(len(spans)), 2):
        if _is_nested(spans[one], spans[other]):
            table[one, other] = table[other, one] = 1.0
    np.fill_diagonal(table, params.nms_iou)
    return table


def _is_nested(one: Sequence[Span], other: Sequence[Span]) -> bool:
    return any(_holds(a, b) or _holds(b, a) for a in one for b in other)


def _holds(outer: Span, inner: Span) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def deal(are_plural: Sequence[bool], boxes: Sequence[_Scored], plurals: Literal["hull", "best"]) -> list[list[_Scored]]:
    """Which of a phrase's boxes, best first, each subject with that phrase gets; subjects in the caption's order."""
    singles = are_plural.count(False)
    row = iter(sorted(boxes[:singles], key=lambda scored: scored.box.x0 + scored.box.x1))
    rest = list(boxes[singles:] if plurals == "hull" else boxes[singles : singles + 1])
    given: list[list[_Scored]] = []
    for is_plural in are_plural:
        if is_plural:
            given.append(rest)
            rest = []
        else:
            given.append([scored] if (scored := next(row, None)) else [])
    return given


def _grounded(subject: Subject, given: Sequence[_Scored]) -> Subject:
    box, score = hull([scored.box for scored in given]), min(scored.score for scored in given)
    return replace(subject, box=box, score=score, mask=None)
