"""The data set: a committed run of small tars, as the engine writes it, from photographs or from drawn noise."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from manifests.files import write_atomically
from manifests.prompt import ImageSegment, InterleavedPrompt, TextSegment
from manifests.record import SCHEMA_VERSION, Box, Record, Row, Span, Subject
from pipeline.actor import Work
from pipeline.commit import CommitPlan, commit
from pipeline.ledger import Layout, RunInfo, Setting
from pipeline.plan import digest
from pipeline.sources.base import Unit
from stages.pixels import Pixels, write_jpeg
from stages.web_image import WebImage

TARGET = 256
"""Side of the training target, pixels."""
QUALITY = 90
CROP_SIDES = (64, 160)
"""Shortest and longest side of a subject's crop, pixels."""
_WORDS = ("cat", "lamp", "boat")
_BUCKETS = (0.5, 0.75, 1.0, 1.5, 2.0)
_NOISE_SIDE = 640


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How many shards, and samples in each."""

    shards: int
    samples: int

    @property
    def total(self) -> int:
        """Samples in all."""
        return self.shards * self.samples


def make_data(folder: Path, size: Size, photographs: Path | None) -> Layout:
    """A run of ``size`` in the folder; one that is already there, whole and made of the same, is kept."""
    names = sorted(path.name for path in _files(photographs)) if photographs else []
    pictures = _photographs(photographs) if photographs else noises()
    return write_run(folder, size, " ".join(names) or "noise", lambda number: make_record(number, pictures))


def write_run(folder: Path, size: Size, of: str, record: Callable[[int], Record]) -> Layout:
    """A run of ``size`` in the folder; one that is already there, whole and made of the same, is kept.

    Args:
        folder: Emptied, if another run is in it.
        size: Of the run.
        of: What its records are made of.
        record: Makes the one of a number.
    """
    layout, info = Layout(folder), _run_info(size, of)
    if layout.run.exists() and _is_whole(layout, info):
        return layout
    if layout.run.exists():
        shutil.rmtree(folder)
    for part in layout.folders:
        part.mkdir(parents=True)
    write_atomically(layout.run, info.to_json().encode())
    plan = CommitPlan(root=str(folder), term=1, fingerprint=digest(info.fingerprint), buckets=_BUCKETS, steps=())
    for number in track(range(size.shards), "shards"):
        start = number * size.samples
        rows = tuple(Row(record=record(start + n)) for n in range(size.samples))
        commit(plan, "benchmark", Work(unit=Unit(number, 0, start, start + size.samples), rows=rows))
    return layout


def _is_whole(layout: Layout, info: RunInfo) -> bool:
    old = layout.read_run()
    return old.fingerprint == info.fingerprint and len(layout.committed()) == info.units


def _run_info(size: Size, of: str) -> RunInfo:
    settings = {"size": f"{size.shards} x {size.samples}", "of": of, "version": "2"}
    return RunInfo(
        schema_version=SCHEMA_VERSION,
        name="benchmark",
        manifest="name: benchmark\n",
        fingerprint=tuple(Setting(name=name, value=value) for name, value in settings.items()),
        units=size.shards,
        rows=size.total,
        buckets=_BUCKETS,
        steps=(),
        reasons=(),
        versions=(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))


def _photographs(folder: Path) -> list[Pixels]:
    """Every photograph of a folder that a target can be cut from.

    Raises:
        ValueError: If there is none.
    """
    decoded = [WebImage(path.read_bytes(), 10**8).decode(None).pixels for path in sorted(_files(folder))]
    large = [pixels for pixels in decoded if min(pixels.shape[:2]) >= TARGET]
    if not large:
        raise ValueError(f"{folder} holds no photograph of at least {TARGET} pixels a side; give another folder")
    return large


def noises() -> list[Pixels]:
    """Smooth noise at several scales, whose spectrum falls as that of photographs does."""
    return [_noise(np.random.default_rng(seed)) for seed in range(32)]


def _noise(rng: np.random.Generator) -> Pixels:
    total = np.zeros((_NOISE_SIDE, _NOISE_SIDE, 3))
    for cells, strength in ((5, 60.0), (20, 30.0), (80, 20.0), (320, 10.0), (_NOISE_SIDE, 3.0)):
        colours = rng.normal(0, strength, (cells, cells, 1)) + rng.normal(0, strength / 4, (cells, cells, 3))
        total += cv2.resize(colours, (_NOISE_SIDE, _NOISE_SIDE), interpolation=cv2.INTER_CUBIC)
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def make_record(number: int, pictures: Sequence[Pixels]) -> Record:
    """The record of this number: a target cut at random from one of the pictures, with one to three crops."""
    rng = np.random.default_rng(number)
    whole = pictures[int(rng.integers(len(pictures)))]
    names = _WORDS[: int(rng.integers(1, len(_WORDS) + 1))]
    caption = "a photograph of a " + " and a ".join(names)
    spans = [
        Span(start=caption.index(f"a {name}") + 2, end=caption.index(f"a {name}") + 2 + len(name)) for name in names
    ]
    target = write_jpeg(_cut(rng, whole, TARGET, TARGET), QUALITY)
    return Record(
        key=f"sample{number:07d}",
        source="benchmark",
        row=number,
        url=f"https://example.org/pictures/{number}.jpg",
        alt_text=caption,
        original_width=whole.shape[1],
        original_height=whole.shape[0],
        image=target,
        caption=caption,
        subjects=tuple(_subject(rng, whole, name, span) for name, span in zip(names, spans, strict=True)),
        prompt=_prompt(caption, spans),
    )


def _subject(rng: np.random.Generator, whole: Pixels, name: str, span: Span) -> Subject:
    width, height = (int(side) for side in rng.integers(CROP_SIDES[0], CROP_SIDES[1] + 1, 2))
    left, top = (float(rng.integers(0, TARGET - side)) for side in (width, height))
    crop = write_jpeg(_cut(rng, whole, width, height), QUALITY)
    box = Box(x0=left, y0=top, x1=left + width, y1=top + height)
    return Subject(phrase=name, span=span, head=name, head_span=span, box=box, score=0.9, crop=crop)


def _prompt(caption: str, spans: Sequence[Span]) -> InterleavedPrompt:
    segments: list[TextSegment | ImageSegment] = []
    done = 0
    for number, span in enumerate(spans):
        segments.append(TextSegment(caption[done : span.start]))
        segments.append(ImageSegment(f"subject{number}", span.of(caption), "replace"))
        done = span.end
    return InterleavedPrompt(tuple(segments))


def _cut(rng: np.random.Generator, whole: Pixels, width: int, height: int) -> Pixels:
    """A random part of the wanted shape, shrunk by up to what the picture allows, as resizing stages shrink."""
    most = min(whole.shape[1] / width, whole.shape[0] / height)
    scale = rng.uniform(1, most) if most > 1 else most
    part_width, part_height = int(width * scale), int(height * scale)
    left = int(rng.integers(0, whole.shape[1] - part_width + 1))
    top = int(rng.integers(0, whole.shape[0] - part_height + 1))
    part = whole[top : top + part_height, left : left + part_width]
    resized: Pixels = cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return resized
