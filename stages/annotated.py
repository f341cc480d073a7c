"""Subjects to boxes by what came with the metadata: annotations that have a span or a name."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from manifests.record import Annotation, Box, Mask, Picture, Span, Subject
from stages.coco_names import COCO_WORDS, categories_by_word
from stages.geometry import clip, hull
from stages.grounded import GroundIn, Outcome
from stages.masks import decode_mask, encode_mask, resize_mask

_CATEGORIES = categories_by_word(COCO_WORDS)


@dataclass(frozen=True, slots=True)
class Candidate:
    """An annotation that may be a subject's.

    Attributes:
        annotation: What came with the metadata.
        box: Where it is, in pixels of the image and inside it.
    """

    annotation: Annotation
    box: Box

    @property
    def score(self) -> float:
        """At most 1; 1 where the metadata has none, as people drew the box."""
        score = self.annotation.score
        return 1.0 if score is None else min(score, 1.0)


class Fit(NamedTuple):
    """How well an annotation fits a subject; of two, the larger is better.

    Attributes:
        overlap: Of the two spans, intersection over union; 0 where they were matched by name.
        likelihood: 0 for the likeliest meaning of the subject's words, -1 for the next, and so on.
    """

    overlap: float
    likelihood: int


def fit(subject: Subject, annotation: Annotation, meanings: Mapping[str, int]) -> Fit | None:
    """How well an annotation fits a subject, or ``None`` if it does not.

    An annotation with a span fits the subjects whose head noun it covers. One without fits those that its name is among
    the ``meanings`` of. A crowd (COCO's ``iscrowd``) has no outline of a single thing and fits none.
    """
    if annotation.is_crowd:
        return None
    if annotation.span:
        covers = annotation.span.start <= subject.head_span.start and subject.head_span.end <= annotation.span.end
        return Fit(overlap_of_spans(annotation.span, subject.span), 0) if covers else None
    likelihood = meanings.get(annotation.phrase.strip().lower())
    return None if likelihood is None else Fit(0.0, likelihood)


def overlap_of_spans(a: Span, b: Span) -> float:
    """Intersection over union of two spans, in [0, 1]."""
    shared = max(0, min(a.end, b.end) - max(a.start, b.start))
    return shared / (a.end - a.start + b.end - b.start - shared)


def meanings_of(subject: Subject, caption: str) -> dict[str, int]:
    """Names of what the subject may be, each with its likelihood as in :class:`Fit`.

    The words up to the head noun, with what they mean among COCO's categories; then with leading words left off, until
    they mean something: "big teddy bear" is a teddy bear and not also a bear.
    """
    modifiers = caption[subject.span.start : subject.head_span.start].lower().split()
    meanings: dict[str, int] = {}
    for start in range(len(modifiers) + 1):
        for head in (subject.head, subject.head_span.of(caption).lower()):
            words = " ".join([*modifiers[start:], head])
            meanings.setdefault(words, 0)
            if words in _CATEGORIES:
                return meanings | {category: -place for place, category in enumerate(_CATEGORIES[words])}
    return meanings


def assign(subjects: Sequence[Subject], candidates: Sequence[Candidate], caption: str) -> list[list[Candidate]]:
    """Which annotations each subject gets: at most one if it is singular, any number if it is plural.

    Pairs are formed best first: by how well the words fit, then by score, then by the box's area, then in the caption's
    order. No annotation goes to two subjects: "a man and a woman" get the two largest boxes called person, the man the
    larger. An expression over several subjects is about the first: "a dog in a field" is the dog. Plural subjects come
    after the others and take all that is left of what fits them best.

    Args:
        subjects: In the caption's order.
        candidates: What there is to give, with scores that are numbers.
        caption: The text that the subjects' spans point into.
    """
    pairs = sorted(_pairs(subjects, candidates, caption), key=_better_first)
    given: list[list[Candidate]] = [[] for _ in subjects]
    best: dict[int, Fit] = {}
    taken: set[int] = set()
    for is_plural in (False, True):
        for pair in pairs:
            place, number = pair.subject, pair.candidate
            if number in taken or subjects[place].is_plural != is_plural:
                continue
            if not given[place] or (is_plural and pair.fit == best[place]):
                best.setdefault(place, pair.fit)
                given[place].append(candidates[number])
                taken.add(number)
    return given


class _Pair(NamedTuple):
    """A subject and a candidate that fits it, both by their place in the list."""

    fit: Fit
    score: float
    area: float
    subject: int
    candidate: int


def _pairs(subjects: Sequence[Subject], candidates: Sequence[Candidate], caption: str) -> Iterator[_Pair]:
    meanings = [meanings_of(subject, caption) for subject in subjects]
    for number, candidate in enumerate(candidates):
        annotation = candidate.annotation
        fits = [(place, fit(subject, annotation, meanings[place])) for place, subject in enumerate(subjects)]
        pairs = [_Pair(found, candidate.score, candidate.box.area, place, number) for place, found in fits if found]
        yield from pairs[:1] if annotation.span else pairs


def _better_first(pair: _Pair) -> tuple[float, ...]:
    return -pair.fit.overlap, -pair.fit.likelihood, -pair.score, -pair.area, pair.subject, pair.candidate


def box_on(image: Picture, annotation: Annotation) -> Box | None:
    """The part of an annotation's box inside the image, in pixels; ``None`` if it is empty, outside or not finite."""
    x0, x1 = annotation.x0 * image.width, annotation.x1 * image.width
    y0, y1 = annotation.y0 * image.height, annotation.y1 * image.height
    if not (x0 < x1 and y0 < y1 and all(map(math.isfinite, (x0, y0, x1, y1)))):
        return None
    return clip(Box(x0=x0, y0=y0, x1=x1, y1=y1), image.width, image.height)


def by_annotations(record: GroundIn, min_score: float) -> list[Outcome]:
    """Each subject with the box, score and mask of what names it, or the reason that it has none.

    A plural subject gets all its annotations at once: the smallest box around them, their lowest score and, if each has
    one, their masks together. A mask that is not at the original's size belongs to another picture and is left out.

    Args:
        record: With the metadata.
        min_score: Annotations that score less, or no number, are not used.
    """
    boxes = [(annotation, box_on(record.image, annotation)) for annotation in record.annotations]
    candidates = [Candidate(annotation, box) for annotation, box in boxes if box]
    passed = [candidate for candidate in candidates if candidate.score >= min_score]
    unused = {
        "low_score": [c.annotation for c in candidates if not c.score >= min_score],  # or not a number
        "bad_box": [annotation for annotation, box in boxes if not box],
    }
    return [
        _grounded(subject, given, record) if given else _why_not(subject, unused, record.caption)
        for subject, given in zip(record.subjects, assign(record.subjects, passed, record.caption), strict=True)
    ]


def _why_not(subject: Subject, unused: Mapping[str, Sequence[Annotation]], caption: str) -> str:
    meanings = meanings_of(subject, caption)
    for reason, annotations in unused.items():
        if any(fit(subject, annotation, meanings) for annotation in annotations):
            return reason
    return "not_grounded"


def _grounded(subject: Subject, given: Sequence[Candidate], record: GroundIn) -> Subject:
    box = hull([candidate.box for candidate in given])
    score = min(candidate.score for candidate in given)
    return replace(
        subject, box=box, score=score, mask=_mask([candidate.annotation.mask for candidate in given], record)
    )


def _mask(masks: Sequence[Mask | None], record: GroundIn) -> Mask | None:
    """The masks together at the image's size, or ``None`` if one is missing or of another picture."""
    size = (record.original_height, record.original_width)
    whole = [mask for mask in masks if mask and (mask.height, mask.width) == size]
    if len(whole) < len(masks):
        return None
    resized = [resize_mask(mask, record.image.height, record.image.width) for mask in whole]
    return (
        resized[0] if len(resized) == 1 else encode_mask(np.logical_or.reduce([decode_mask(mask) for mask in resized]))
    )
