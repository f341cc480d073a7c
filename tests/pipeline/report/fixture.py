"""Output folders as a run leaves them, written through the contracts: drawn pictures, real tars, real records."""

import hashlib
import io
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image, ImageDraw

from manifests.prompt import ImageSegment, Insertion, InterleavedPrompt, TextSegment
from manifests.record import (
    SCHEMA_VERSION,
    Box,
    Control,
    DroppedSubject,
    Mask,
    Picture,
    Record,
    Row,
    Span,
    StepUse,
    Subject,
    Verdict,
)
from manifests.shard import REJECT_SCHEMA, build_index, parquet_bytes, record_sample
from manifests.tar import write_tar
from manifests.unit_record import Rejection, StepCount, UnitRecord
from pipeline.ledger import Layout, Reason, RunInfo, Setting
from stages.masks import encode_mask, mask_png

BUCKETS = (0.5, 0.75, 1.0, 1.5, 2.0)
NODES = ("fetch", "decode", "phrases", "ground", "select", "crop", "control", "interleave")
REASONS = {
    ("source", "no_url"): "the metadata row has no URL",
    ("fetch", "http_404"): "the server says that there is no such file",
    ("decode", "truncated"): "the file ends before the picture does",
    ("select", "too_small"): "the picture's shorter side is under `min_side`",
    ("select", "no_subject"): "no phrase of the caption became a subject",
    ("phrases", "relational"): "the head noun names a place or a part, not a thing; `relational` says which",
}
COLOURS = {"red": (214, 64, 52), "blue": (52, 96, 200), "green": (60, 160, 90), "yellow": (232, 190, 60)}
SHAPES = ("circle", "square", "triangle", "star", "heart")

Rows = Sequence[Row]


@cache
def drawing(number: int, width: int = 96, height: int = 64) -> Image.Image:
    """A sky-to-ground gradient with up to three coloured shapes, of which ``place`` says where they are."""
    top, bottom = np.array([196, 220, 240]), np.array([228 - number % 5 * 16, 214, 190])
    share = np.linspace(0, 1, height)[:, None, None]
    pixels = np.broadcast_to(top * (1 - share) + bottom * share, (height, width, 3))
    image = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for slot in range(3):
        draw.ellipse(place(slot, width, height), fill=COLOURS[colour(number, slot)])
    return image


def place(slot: int, width: int, height: int) -> tuple[float, float, float, float]:
    """Where the shape in one of three slots is: left, top, right, bottom."""
    return (0.04 + 0.32 * slot) * width, 0.3 * height, (0.32 + 0.32 * slot) * width, 0.85 * height


def colour(number: int, slot: int) -> str:
    """The colour of a drawing's shape."""
    return list(COLOURS)[(number + slot) % len(COLOURS)]


@cache
def encoded(number: int, box: tuple[float, float, float, float] | None = None, kind: str = "jpg") -> Picture:
    """A drawing, or what is in a box of it, as a file; ``kind`` may be ``canny``."""
    image = drawing(number).crop(tuple(round(x) for x in box)) if box else drawing(number)
    file = io.BytesIO()
    if kind == "canny":
        image.convert("L").point(lambda level: 255 * (level > 150)).save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=90)
    return Picture(
        format="png" if kind == "canny" else "jpg", width=image.width, height=image.height, data=file.getvalue()
    )


@cache
def shape_mask(slot: int) -> Mask:
    """The mask of the shape in a slot."""
    image = Image.new("L", drawing(0).size)
    ImageDraw.Draw(image).ellipse(place(slot, *image.size), fill=255)
    return encode_mask(np.asarray(image) > 127)


def synthetic_record(number: int, insertion: Insertion = "replace", caption: str | None = None) -> Record:
    """A whole record: 0 to 3 subjects, a control, scores and a dropped phrase, all decided by ``number``."""
    style = number % 20
    phrases = [f"{colour(style, slot)} {SHAPES[(number + 2 * slot) % len(SHAPES)]}" for slot in range(number % 4)]
    text = caption or f"picture {number} shows " + (" beside a ".join(phrases) or "nothing") + " on the ground"
    subjects = tuple(_subject(text, phrase, style, slot) for slot, phrase in enumerate(phrases) if phrase in text)
    data = encoded(style).data
    return Record(
        key=f"00c0ffee0000_{number:09d}",
        source="part-0.parquet",
        row=number,
        url=f"https://example.org/{number}.jpg",
        alt_text=text,
        aesthetic=4 + number % 30 / 10,
        sha256=hashlib.sha256(data).hexdigest(),
        original_width=960,
        original_height=640,
        image=encoded(style),
        caption=text,
        subjects=subjects,
        dropped_subjects=(DroppedSubject(phrase="ground", stage="phrases", reason="relational"),),
        controls=(Control(kind="canny", picture=encoded(style, kind="canny")),),
        prompt=prompt(text, subjects, insertion),
    )


def _subject(text: str, phrase: str, number: int, slot: int) -> Subject:
    start = text.index(phrase)
    head = phrase.split()[-1]
    box = place(slot, *drawing(number).size)
    return Subject(
        phrase=phrase,
        span=Span(start=start, end=start + len(phrase)),
        head=head,
        head_span=Span(start=start + len(phrase) - len(head), end=start + len(phrase)),
        box=Box(x0=box[0], y0=box[1], x1=box[2], y1=box[3]),
        score=0.5 + number / 50,
        mask=shape_mask(slot),
        crop=encoded(number, box),
    )


def prompt(text: str, subjects: Sequence[Subject], insertion: Insertion) -> InterleavedPrompt:
    """The prompt with every subject's crop in its place."""
    segments: list[TextSegment | ImageSegment] = []
    position = 0
    for slot, subject in enumerate(subjects):
        segments += _text(text[position : subject.span.start])
        segments.append(ImageSegment(f"subject{slot}", subject.phrase, insertion))
        position = subject.span.end if insertion in ("replace", "feature") else subject.span.start
    return InterleavedPrompt((*segments, *_text(text[position:])))


def _text(text: str) -> list[TextSegment]:
    return [TextSegment(text)] if text else []


def rejected(number: int, kind: str, node: str, reason: str, message: str = "") -> Row:
    """A row that a node dropped or failed; with a thumbnail from ``select`` on, where there is a picture."""
    record = Record(
        key=f"00c0ffee0000_{number:09d}",
        source="part-0.parquet",
        row=number,
        url=f"https://example.org/{number}.jpg",
        alt_text=f"rejected {number}",
    )
    thumbnail = encoded(number % 20).data if node == "select" else None
    return Row(
        record=record, verdict=Verdict(kind=kind, node=node, reason=reason, message=message, thumbnail=thumbnail)
    )


def synthetic_rows(kept: int, first: int = 0, insertion: Insertion | None = None) -> list[Row]:
    """Records to keep, and for every four of them one rejected, each time for another reason."""
    insertions = itertools.cycle([insertion] if insertion else get_args(Insertion))
    rows = [Row(record=synthetic_record(number, next(insertions))) for number in range(first, first + kept)]
    kinds = itertools.cycle(
        [
            ("failed", "fetch", "http_404", "404 Not Found"),
            ("dropped", "select", "too_small", "64 pixels, min_side is 256"),
            ("failed", "decode", "truncated", "JPEG of 812 bytes ends early"),
            ("dropped", "select", "no_subject", ""),
            ("dropped", "source", "no_url", ""),
        ]
    )
    return rows + [rejected(first + kept + i, *next(kinds)) for i in range((kept + 3) // 4)]


def write_run(out: Path, units: Sequence[Rows], planned: int | None = None, nodes: Sequence[str] = NODES) -> Layout:
    """Write a run whose committed units hold these rows; ``planned`` units in all, by default no more than these."""
    layout = Layout(out)
    for path in (layout.run, layout.tar("0"), layout.rejects("0"), layout.unit("0")):
        path.parent.mkdir(parents=True, exist_ok=True)
    info = run_info(sum(map(len, units)), len(units) if planned is None else planned, nodes)
    layout.run.write_text(info.to_json())
    start = 0
    for number, rows in enumerate(units):
        _commit(layout, number, start, rows, info.steps)
        start += len(rows)
    return layout


def run_info(rows: int, units: int, nodes: Sequence[str] = NODES) -> RunInfo:
    """What a run of these nodes says about itself."""
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        name="synthetic-shapes",
        manifest="name: synthetic-shapes\nsource: {kind: parquet, paths: [part-0.parquet]}\n",
        fingerprint=(Setting(name="seed", value="0"), Setting(name="node select", value='select version 1, {"n": 4}')),
        units=units,
        rows=rows,
        buckets=BUCKETS,
        steps=tuple(StepUse(node=node, stage=node, version=1, params='{"min_side": 256}') for node in nodes),
        reasons=tuple(Reason(node=node, reason=reason, meaning=text) for (node, reason), text in REASONS.items()),
        versions=(Setting(name="python", value="3.11.2"), Setting(name="pyarrow", value="21.0.0")),
        started_at="2025-03-01T09:00:00+00:00",
    )


def _commit(layout: Layout, number: int, start: int, rows: Rows, steps: Sequence[StepUse]) -> None:
    name = f"{number:06d}"
    kept = [replace(row.record, steps=tuple(steps)) for row in rows if row.verdict is None]
    tar = io.BytesIO()
    write_tar(tar, ((record.key, record_sample(record, mask_png, BUCKETS).members) for record in kept))
    layout.tar(name).write_bytes(tar.getvalue())
    tar.seek(0)
    index = parquet_bytes(build_index(tar))
    layout.index(name).write_bytes(index)
    rejects = [_reject(row) for row in rows if row.verdict]
    if rejects:
        pq.write_table(pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA), layout.rejects(name))
    record = UnitRecord(
        schema_version=SCHEMA_VERSION,
        unit=number,
        source="part-0.parquet",
        start=start,
        stop=start + len(rows),
        fingerprint="f" * 64,
        rows=len(rows),
        kept=len(kept),
        rejections=_rejections(rows),
        steps=tuple(_step_counts(rows, [step.node for step in steps])),
        tar_size=len(tar.getvalue()),
        tar_sha256=hashlib.sha256(tar.getvalue()).hexdigest(),
        index_sha256=hashlib.sha256(index).hexdigest(),
        rejects_sha256=None,
        finished_at=f"2025-03-01T{9 + number // 60:02d}:{number % 60:02d}:30.000+00:00",
    )
    layout.unit(name).write_text(record.to_json())


def _reject(row: Row) -> Mapping[str, object]:
    assert row.verdict is not None
    record, verdict = row.record, row.verdict
    said = {name: getattr(record, name) for name in ("key", "source", "row", "url", "alt_text")}
    return said | {name: getattr(verdict, name) for name in ("kind", "node", "reason", "message", "thumbnail")}


def _rejections(rows: Rows) -> tuple[Rejection, ...]:
    counts = Counter((row.verdict.kind, row.verdict.node, row.verdict.reason) for row in rows if row.verdict)
    return tuple(Rejection(kind=k, node=n, reason=r, count=count) for (k, n, r), count in sorted(counts.items()))


def _step_counts(rows: Rows, nodes: Sequence[str]) -> Iterator[StepCount]:
    lost = Counter(row.verdict.node for row in rows if row.verdict)
    alive = len(rows) - lost["source"]
    for number, node in enumerate(nodes):
        left = alive - lost[node]
        yield StepCount(node=node, records_in=alive, records_out=left, seconds=0.01 * alive * (1 + number % 3))
        alive = left
