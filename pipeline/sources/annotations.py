"""Boxes that come with the metadata, as annotations: GRIT's lists, and boxes in fractions at large."""

from collections.abc import Iterable, Sequence

from manifests.record import Annotation, Span
from pipeline.sources.columns import read_score

_SLACK = 0.01
"""How far a fraction may lie outside [0, 1] and still be rounding; beyond that it is no fraction but pixels."""


def grit_annotations(caption: str | None, lists: Iterable[object]) -> tuple[Annotation, ...]:
    """The annotations in GRIT's ``noun_chunks`` and ``ref_exps``, in order, each once.

    An item is ``[start, end, x0, y0, x1, y1, score]``, all floats: characters of the caption, fractions of the
    picture. Items that point outside the caption or the picture, or have no area, are left out. So is a referring
    expression with the box of a noun chunk: "a cat with green eyes" has the cat's box, and would give it to the eyes.

    Source: Peng et al. 2023, "Kosmos-2", section 2, and the data card of GRIT.
    """
    if caption is None:
        return ()
    found: dict[Annotation, None] = {}
    for items in lists:
        boxes = {_edges(annotation) for annotation in found}
        for item in items if isinstance(items, Sequence) else ():
            annotation = _grit_annotation(caption, item) if isinstance(item, Sequence) else None
            if annotation and _edges(annotation) not in boxes:
                found[annotation] = None
    return tuple(found)


def _edges(annotation: Annotation) -> tuple[float, float, float, float]:
    return annotation.x0, annotation.y0, annotation.x1, annotation.y1


def _grit_annotation(caption: str, item: Sequence[object]) -> Annotation | None:
    numbers = [read_score(value) for value in item]
    if len(numbers) < 6:
        return None
    start, end, *box = numbers[:6]
    if start is None or end is None or not (0 <= start < end <= len(caption)):
        return None
    if not (start.is_integer() and end.is_integer()) or any(edge is None for edge in box):
        return None
    span = Span(start=int(start), end=int(end))
    edges = clip_box([edge for edge in box if edge is not None], _SLACK)
    if edges is None or not span.of(caption).strip():
        return None
    x0, y0, x1, y1 = edges
    score = numbers[6] if len(numbers) > 6 else None
    return Annotation(phrase=span.of(caption), span=span, x0=x0, y0=y0, x1=x1, y1=y1, score=score)


def clip_box(box: Sequence[float], slack: float) -> tuple[float, float, float, float] | None:
    """A box of fractions ``x0, y0, x1, y1``, cut to [0, 1]; ``None`` if it has no area there.

    Args:
        box: The fractions.
        slack: How far outside [0, 1] they may lie.
    """
    if not all(-slack <= edge <= 1 + slack for edge in box):
        return None
    x0, y0, x1, y1 = (min(max(edge, 0.0), 1.0) for edge in box)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
