"""The samples a report shows, read from the shards one after another: light data and small pictures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from manifests.record import Box, Control, DroppedSubject, Record, Subject
from manifests.shard import aspect_bucket, read_index, record_from_members
from pipeline.ledger import Layout
from pipeline.report.pictures import Thumbnail, outline, thumbnail
from pipeline.report.survey import read_member


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Longest side of each kind of thumbnail, in pixels."""

    image: int
    crop: int
    control: int


def sides(samples: int) -> Sides:
    """Thumbnail sizes that keep the page of so many samples openable: the more samples, the smaller."""
    if samples <= 200:
        return Sides(image=448, crop=128, control=256)
    if samples <= 2000:
        return Sides(image=288, crop=96, control=144)
    return Sides(image=160, crop=64, control=80)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectView:
    """A subject as the page shows it; boxes and ``outline`` in pixels of the image, the latter as an SVG path."""

    phrase: str
    head: str
    score: float | None
    box: tuple[float, float, float, float] | None
    head_box: tuple[float, float, float, float] | None
    outline: str
    crop: Thumbnail | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartView:
    """A face or a region as the page shows it; ``member`` is its name in prompts."""

    member: str
    label: str
    score: float | None
    box: tuple[float, float, float, float] | None
    outline: str
    crop: Thumbnail | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlView:
    """A control image as the page shows it."""

    kind: str
    picture: Thumbnail


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleView:
    """A kept record as the page shows it; ``prompt`` are its segments as the shard's JSON has them."""

    key: str
    shard: str
    source: str
    row: int
    source_id: str | None
    url: str | None
    sha256: str | None
    original: Mapping[str, int | None]
    alt_text: str | None
    caption: str
    prompt: tuple[Mapping[str, str], ...]
    rendered: str
    image: Thumbnail
    bucket: float
    scores: Mapping[str, float | None]
    subjects: tuple[SubjectView, ...]
    parts: tuple[PartView, ...]
    controls: tuple[ControlView, ...]
    dropped: tuple[DroppedSubject, ...]


def read_samples(
    layout: Layout, chosen: Mapping[str, Sequence[int]], sides: Sides, buckets: Sequence[float]
) -> Iterator[SampleView]:
    """The chosen samples, ``unit -> positions in its shard``, reading no other."""
    for unit, positions in chosen.items():
        for record in _read_records(layout, unit, positions):
            yield _view(record, unit, sides, buckets)


def _read_records(layout: Layout, unit: str, positions: Sequence[int]) -> Iterator[Record]:
    rows = read_index(layout.index(unit)).select(["key", "member", "offset", "size"]).to_pylist()
    samples = [list(members) for _, members in groupby(rows, key=lambda row: row["key"])]
    with layout.tar(unit).open("rb") as tar:
        for position in positions:
            members = {row["member"]: read_member(tar, row) for row in samples[position]}
            yield record_from_members(members, str(layout.tar(unit)))


def _view(record: Record, unit: str, sides: Sides, buckets: Sequence[float]) -> SampleView:
    image, caption = record.image, record.caption
    assert image is not None and caption is not None
    prompt: list[dict[str, Any]] = record.prompt.to_plain() if record.prompt else [{"text": caption}]
    return SampleView(
        key=record.key,
        shard=unit,
        source=record.source,
        row=record.row,
        source_id=record.source_id,
        url=record.url,
        sha256=record.sha256,
        original={"width": record.original_width, "height": record.original_height},
        alt_text=record.alt_text,
        caption=caption,
        prompt=tuple(prompt),
        rendered=record.prompt.render() if record.prompt else caption,
        image=thumbnail(image, sides.image),
        bucket=aspect_bucket(image.width, image.height, buckets),
        scores=_scores(record),
        subjects=tuple(_subject(subject, sides) for subject in record.subjects or ()),
        parts=(*_faces(record, sides), *_regions(record, sides)),
        controls=tuple(_control(control, sides) for control in record.controls),
        dropped=record.dropped_subjects,
    )


def _scores(record: Record) -> dict[str, float | None]:
    """What the metadata says, and what models say; these by the name of their scale."""
    said = {f"{name} (metadata)": getattr(record, name) for name in ("aesthetic", "similarity", "watermark", "nsfw")}
    return said | {score.name: score.value for score in record.scores}


def _faces(record: Record, sides: Sides) -> Iterator[PartView]:
    for number, face in enumerate(record.faces or ()):
        yield PartView(
            member=f"face{number}",
            label=f"face {number}",
            score=face.score,
            box=_rounded(face.box),
            outline="",
            crop=thumbnail(face.crop, sides.crop) if face.crop else None,
        )


def _regions(record: Record, sides: Sides) -> Iterator[PartView]:
    for number, region in enumerate(record.regions or ()):
        yield PartView(
            member=f"region{number}",
            label=f"{region.kind} region {number}",
            score=None,
            box=_rounded(region.box),
            outline=outline(region.mask) if region.mask else "",
            crop=thumbnail(region.crop, sides.crop) if region.crop else None,
        )


def _subject(subject: Subject, sides: Sides) -> SubjectView:
    return SubjectView(
        phrase=subject.phrase,
        head=subject.head,
        score=subject.score,
        box=_rounded(subject.box),
        head_box=_rounded(subject.head_box),
        outline=outline(subject.mask) if subject.mask else "",
        crop=thumbnail(subject.crop, sides.crop) if subject.crop else None,
    )


def _control(control: Control, sides: Sides) -> ControlView:
    return ControlView(kind=control.kind, picture=thumbnail(control.picture, sides.control))


def _rounded(box: Box | None) -> tuple[float, float, float, float] | None:
    if box is None:
        return None
    x0, y0, x1, y1 = (round(side, 1) for side in box.xyxy)
    return x0, y0, x1, y1
