"""A finished run of people in several pictures each, whose subjects carry vectors that tell who they are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

import pipeline.run
from manifests.prompt import ImageSegment, InterleavedPrompt, TextSegment
from manifests.record import Box, Face, Feature, ModelUse, Picture, Record, Row, Span, Subject
from pipeline.ledger import Layout
from pipeline.local import run_local
from pipeline.progress import LineProgress
from pipeline.run import execute, prepare
from pipeline.sources.base import Part, Source, Unit
from stages.features import content_hash, pack
from stages.pixels import write_jpeg
from tests.pipeline.toys import manifest

MODEL = ModelUse(name="who", revision="1")
WORDS = ("woman", "dog", "hat")
TEXT = "woman with dog and hat"
CAPTION = f"number {TEXT}"
"""As the toy stage makes it of the text."""


@dataclass(frozen=True)
class Shown:
    """Somebody in a picture: who it is, and what the caption calls them."""

    who: int
    word: str = "woman"
    model: ModelUse = MODEL


def picture(seed: int, side: int = 16) -> Picture:
    return write_jpeg(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


def vector(who: int, seed: int) -> np.ndarray:
    """Close to all others of the same person: cosines of about 0.9."""
    noise = np.random.default_rng(1000 + seed).normal(size=32) * 0.06
    return np.asarray(np.eye(32)[who] + noise, np.float32)


def record(number: int, *shown: Shown, group: str | None = None, sha256: str | None = None) -> Record:
    """A record whose subjects are shown; subject n has crop and head crop of its own."""
    subjects, features = [], []
    for n, one in enumerate(shown):
        start = CAPTION.index(one.word)
        span = Span(start=start, end=start + len(one.word))
        crop, head = picture(100 * number + n), picture(100 * number + n + 50, 8)
        box = Box(x0=8 * n, y0=0, x1=8 * n + 8, y1=16)
        subjects.append(
            Subject(phrase=one.word, span=span, head=one.word, head_span=span, box=box, crop=crop, head_crop=head)
        )
        features.append(who_feature(f"subject{n}", one, 100 * number + n, crop))
        features.append(who_feature(f"head{n}", one, 100 * number + n, head))
    caption = content_hash(CAPTION)
    features.append(pack("caption_who_vector", caption, MODEL, np.ones(4, np.float32), "float32"))
    return Record(
        key=f"k{number:03}",
        source="album",
        row=number,
        alt_text=TEXT,
        caption=CAPTION,
        group=group,
        sha256=sha256 or f"{number:064x}",
        image=picture(number, 32),
        original_width=32,
        original_height=32,
        subjects=tuple(subjects),
        faces=(Face(box=Box(x0=9, y0=2, x1=13, y1=6), score=1, crop=picture(number + 7)),),
        features=tuple(features),
        prompt=prompt(shown[0].word) if shown else None,
    )


def prompt(word: str) -> InterleavedPrompt:
    """The caption with the first subject, of which it says this word, in its place."""
    before, after = CAPTION.split(word)
    image = ImageSegment("subject0", word, "replace")
    return InterleavedPrompt((TextSegment(before), image, *map(TextSegment, filter(None, (after,)))))


def who_feature(stem: str, one: Shown, seed: int, crop: Picture) -> Feature:
    return pack(f"{stem}_who_vector", content_hash(crop), one.model, vector(one.who, seed), "float16")


class Album(Source):
    """Records as given."""

    gives = frozenset({"alt_text", "image", "caption", "subjects", "subjects.crop", "features", "faces", "prompt"})

    def __init__(self, records: Sequence[Record]) -> None:
        self._given = tuple(records)
        self.parts = (Part("album", len(records), "a" * 64),)

    def read(self, unit: Unit) -> list[Row]:
        return [Row(record=record) for record in self._given[unit.start : unit.stop]]


def run_album(out: Path, records: Sequence[Record], monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A finished run that kept these records, in units of eight; the toy stages must be known."""
    with monkeypatch.context() as patch:
        patch.setattr(pipeline.run, "open_source", lambda source: Album(records))
        file = manifest(params="{drops: [], fails: []}")
        nodes = [node for node in file.manifest.nodes if node.id == "name"]
        alone = [node.model_copy(update={"needs": []}) for node in nodes]
        prepared = prepare(replace(file, manifest=file.manifest.model_copy(update={"nodes": alone})))
        with (out.parent / "log").open("w") as log:
            assert execute(prepared, out, run_local, LineProgress(log)).left == 0
    return Layout(out)
