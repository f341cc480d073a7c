"""Features and the prompt are made of other parts of a record, and can be outdated by a step that changes those."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from manifests.prompt import ImageSegment, InterleavedPrompt, TextSegment
from manifests.record import Face, Feature, Picture, Record, changed
from stages.features import FaceIn, content_hash

_SOURCES = frozenset({"image", "caption", "subjects", "faces", "regions", "controls"})
_NUMBERED = re.compile(r"(subject|head|face|region)([0-9]+)")

Given: TypeAlias = str | Picture | FaceIn | None


def without_outdated(record: Record, written: frozenset[str]) -> Record:
    """The record after a step: with those features and that prompt which are still of what it holds.

    Features of a part that has another number now, as an earlier one is gone, are called by that number.

    Args:
        record: As the step left it.
        written: The fields that the step wrote.
    """
    if _SOURCES.isdisjoint(written) or not (record.features or record.prompt):
        return record
    features = tuple(_current(record))
    prompt = record.prompt if record.prompt and _is_of(record.prompt, record) else None
    return changed(record, {"features": features, "prompt": prompt})


def _current(record: Record) -> Iterator[Feature]:
    contents: dict[str, dict[str, list[str]]] = {}
    for feature in record.features:
        stem, _, rest = feature.name.partition("_")
        match = _NUMBERED.fullmatch(stem)
        kind = match[1] if match else stem
        if kind not in _KINDS:
            yield feature
            continue
        if kind not in contents:
            contents[kind] = _stems_by_content(kind, record)
        stems = contents[kind].get(feature.content, ())
        if stem in stems:
            yield feature
        elif stems:
            yield replace(feature, name=f"{stems[0]}_{rest}")


def _stems_by_content(kind: str, record: Record) -> dict[str, list[str]]:
    """What names of features begin with, by the hash of what they are of."""
    stems: dict[str, list[str]] = {}
    for stem, given in _parts(kind, record):
        if given is not None:
            stems.setdefault(content_hash(given), []).append(stem)
    return stems


def _parts(kind: str, record: Record) -> Iterator[tuple[str, Given]]:
    """What a network may have been given of the parts of a kind, each by what its features' names begin with."""
    if kind in _GIVEN:
        for number, givens in enumerate(_GIVEN[kind](record)):
            yield from ((f"{kind}{number}", given) for given in givens)
        return
    whole: dict[str, Given] = {"caption": record.caption, "image": record.image}
    yield kind, (whole | {control.kind: control.picture for control in record.controls}).get(kind)


_GIVEN: Mapping[str, Callable[[Record], list[tuple[Given, ...]]]] = {
    "subject": lambda record: [(subject.crop,) for subject in record.subjects or ()],
    "head": lambda record: [(subject.head_crop,) for subject in record.subjects or ()],
    "face": lambda record: [(face.crop, _aligned(face, record)) for face in record.faces or ()],
    "region": lambda record: [(region.crop,) for region in record.regions or ()],
}

_KINDS = frozenset({*_GIVEN, "caption", "image", "canny", "depth", "sketch"})
"""What features of this repository's stages are of; of others' nothing is known."""


def _aligned(face: Face, record: Record) -> FaceIn | None:
    return FaceIn(record.image, face.landmarks) if record.image and face.landmarks else None


def _is_of(prompt: InterleavedPrompt, record: Record) -> bool:
    """Whether the prompt's text is the caption, and all that it points at is there and goes with its words."""
    place = 0
    for segment in prompt.segments:
        if isinstance(segment, ImageSegment) and not _is_there(segment, place, record):
            return False
        place += len(segment.text if isinstance(segment, TextSegment) else segment.caption_text)
    return prompt.caption == record.caption


def _is_there(image: ImageSegment, place: int, record: Record) -> bool:
    match = _NUMBERED.fullmatch(image.member)
    if not match:
        return image.member == "image" or image.member in [control.kind for control in record.controls]
    kind, number = match[1], int(match[2])
    if kind == "subject":
        return _is_subject(image, place, number, record)
    parts: Sequence[object] = (record.faces if kind == "face" else record.regions) or ()
    return number < len(parts)


def _is_subject(image: ImageSegment, place: int, number: int, record: Record) -> bool:
    """Whether the subject of that number has a crop and the segment's words, where they stand in the caption."""
    if record.caption is None or number >= len(record.subjects or ()):
        return False
    subject = (record.subjects or ())[number]
    starts = [span.start for span in (subject.span, subject.head_span) if span.of(record.caption) == image.phrase]
    return subject.crop is not None and bool(starts) and (image.insertion == "side" or place in starts)
