"""Hypothesis strategies for the contracts' values: spans, boxes, masks, pictures, subjects, records, prompts.

Everything compares equal to itself and survives UTF-8 and JSON: no NaN, no surrogates.
"""

import hashlib
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st

from manifests.prompt import ImageSegment, Insertion, InterleavedPrompt, Segment, TextSegment
from manifests.record import (
    Annotation,
    Box,
    Control,
    DroppedSubject,
    Face,
    Feature,
    Keypoint,
    Mask,
    ModelUse,
    Picture,
    Point,
    Record,
    Region,
    Row,
    Score,
    Span,
    StepUse,
    Subject,
    Synthesis,
    Verdict,
    canonical_json,
)
from stages.masks import BoolArray, encode_mask
from stages.pixels import Pixels, write_jpeg, write_png

INSERTIONS: tuple[Insertion, ...] = ("replace", "before", "feature", "side")
CONTROL_KINDS: tuple[Literal["canny", "depth", "sketch"], ...] = ("canny", "depth", "sketch")

keys = st.from_regex(r"[0-9a-z_-]{1,40}", fullmatch=True)
texts = st.text(max_size=40)
captions = st.text(min_size=1, max_size=60)
fractions = st.floats(0, 1)
sides = st.integers(1, 40)
insertions = st.sampled_from(INSERTIONS)


@st.composite
def spans(draw: st.DrawFn, length: int, start: int = 0) -> Span:
    """A span of ``[start, length)``, at least one character long."""
    ends = draw(st.lists(st.integers(start, length), min_size=2, max_size=2, unique=True))
    return Span(start=min(ends), end=max(ends))


@st.composite
def boxes(draw: st.DrawFn, width: float = 100, height: float = 100, spill: float = 0, least: float = 0.01) -> Box:
    """A box in a picture of ``width`` x ``height``, its sides ``least`` or longer, ``spill`` outside at most."""
    x0 = draw(st.floats(-spill, width + spill - least))
    y0 = draw(st.floats(-spill, height + spill - least))
    x1 = draw(st.floats(min(x0 + least, width + spill), width + spill))
    y1 = draw(st.floats(min(y0 + least, height + spill), height + spill))
    return Box(x0=x0, y0=y0, x1=x1, y1=y1)


@st.composite
def bool_arrays(draw: st.DrawFn, height: int | None = None, width: int | None = None) -> BoolArray:
    """A mask's pixels: full, empty, noise, or a rectangle."""
    shape = (height or draw(sides), width or draw(sides))
    kind = draw(st.sampled_from(["empty", "full", "noise", "rectangle"]))
    array = np.full(shape, kind == "full")
    if kind == "noise":
        array = np.random.default_rng(draw(st.integers(0, 2**32))).random(shape) < draw(fractions)
    if kind == "rectangle":
        (y0, y1), (x0, x1) = (sorted((draw(st.integers(0, side)), draw(st.integers(0, side)))) for side in shape)
        array[y0:y1, x0:x1] = True
    return array


def masks(height: int | None = None, width: int | None = None) -> st.SearchStrategy[Mask]:
    """A mask, of any small size where none is given."""
    return bool_arrays(height, width).map(encode_mask)


@st.composite
def pixels(draw: st.DrawFn, height: int | None = None, width: int | None = None) -> Pixels:
    """RGB noise over a plain colour, so that pictures have some structure."""
    shape = (height or draw(sides), width or draw(sides), 3)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    plain, noise = rng.integers(0, 256, 3), rng.integers(-draw(st.integers(0, 100)), 101, shape)
    return np.asarray(np.clip(plain + noise, 0, 255), np.uint8)


@st.composite
def pictures(draw: st.DrawFn, height: int | None = None, width: int | None = None) -> Picture:
    """A picture that decodes, JPEG or PNG."""
    return draw(st.sampled_from([write_jpeg, write_png]))(draw(pixels(height, width)))


@st.composite
def subjects(draw: st.DrawFn, caption: str, image: Picture) -> Subject:
    """A subject of a non-empty caption; what stages add is there or not."""
    span = draw(spans(len(caption)))
    head_span = draw(spans(span.end, span.start))
    box = boxes(image.width, image.height)
    return Subject(
        phrase=span.of(caption),
        span=span,
        head=draw(texts),
        head_span=head_span,
        is_plural=draw(st.booleans()),
        box=draw(st.none() | box),
        score=draw(st.none() | fractions),
        mask=draw(st.none() | masks(image.height, image.width)),
        crop=draw(st.none() | pictures()),
        crop_key=draw(st.none() | keys),
        head_box=draw(st.none() | box),
        head_crop=draw(st.none() | pictures()),
    )


keypoints = st.builds(Keypoint, name=texts, x=fractions, y=fractions, is_visible=st.booleans())


@st.composite
def annotations(draw: st.DrawFn, alt_text: str | None) -> Annotation:
    """A box of the metadata, in fractions."""
    box = draw(boxes(1, 1))
    return Annotation(
        phrase=draw(texts),
        span=draw(st.none() | spans(len(alt_text))) if alt_text else None,
        x0=box.x0,
        y0=box.y0,
        x1=box.x1,
        y1=box.y1,
        score=draw(st.none() | fractions),
        mask=draw(st.none() | masks()),
        is_crowd=draw(st.booleans()),
        keypoints=tuple(draw(st.lists(keypoints, max_size=2))),
    )


def text_segments() -> st.SearchStrategy[TextSegment]:
    """Text, never empty."""
    return captions.map(TextSegment)


def image_segments() -> st.SearchStrategy[ImageSegment]:
    """An image of any kind, entering in any way."""
    parts = st.builds("{}{}".format, st.sampled_from(["subject", "face", "region"]), st.integers(0, 99))
    members = st.sampled_from(["image", "canny", "depth", "sketch"]) | parts
    return st.builds(ImageSegment, members, texts, insertions)


@st.composite
def prompts(draw: st.DrawFn) -> InterleavedPrompt:
    """Any prompt the contract allows."""
    segments: list[Segment] = []
    for segment in draw(st.lists(text_segments() | image_segments(), max_size=8)):
        if segments and isinstance(segments[-1], TextSegment) and isinstance(segment, TextSegment):
            continue
        segments.append(segment)
    return InterleavedPrompt(tuple(segments))


model_uses = st.builds(ModelUse, name=texts, revision=texts)
dropped_subjects = st.builds(DroppedSubject, phrase=texts, stage=texts, reason=texts)
step_uses = st.builds(
    StepUse,
    node=texts,
    stage=texts,
    version=st.integers(1, 99),
    params=st.dictionaries(texts, texts | fractions | st.none() | st.booleans(), max_size=2).map(canonical_json),
    models=st.lists(model_uses, max_size=2).map(tuple),
)


@st.composite
def controls(draw: st.DrawFn, image: Picture) -> tuple[Control, ...]:
    """Control images of the image's size, at most one of each kind."""
    kinds = draw(st.lists(st.sampled_from(CONTROL_KINDS), unique=True))
    return tuple(Control(kind=kind, picture=draw(pictures(image.height, image.width))) for kind in kinds)


@st.composite
def faces(draw: st.DrawFn, image: Picture) -> Face:
    """A face, with landmarks or without."""
    points = st.builds(Point, x=st.floats(0, image.width), y=st.floats(0, image.height))
    return Face(
        box=draw(boxes(image.width, image.height)),
        score=draw(fractions),
        landmarks=tuple(draw(st.just([]) | st.lists(points, min_size=5, max_size=5))),
        crop=draw(st.none() | pictures()),
        crop_key=draw(st.none() | keys),
    )


@st.composite
def regions(draw: st.DrawFn, image: Picture) -> Region:
    """A region of either kind."""
    return Region(
        kind=draw(st.sampled_from(["random", "object"])),
        box=draw(boxes(image.width, image.height)),
        mask=draw(st.none() | masks(image.height, image.width)),
        crop=draw(st.none() | pictures()),
    )


scores = st.builds(Score, name=st.sampled_from(["aesthetic", "clip_score", "pick"]), value=fractions, model=model_uses)
syntheses = st.builds(Synthesis, prompt=texts, content=texts, style=texts, seed=st.integers(0, 2**62))
features = st.builds(
    Feature,
    name=st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True),
    content=texts,
    model=model_uses,
    dtype=st.sampled_from(["F32", "BF16"]),
    shape=st.lists(st.integers(1, 9), max_size=3).map(tuple),
    data=st.binary(max_size=20),
)


def _said(draw: st.DrawFn) -> dict[str, Any]:
    """What the metadata says of a record, or does not."""
    sizes, words = st.none() | st.integers(1, 2**62), st.none() | texts
    return {
        "source_id": draw(words),
        "url": draw(words),
        "stated_width": draw(sizes),
        "stated_height": draw(sizes),
        "aesthetic": draw(st.none() | st.floats(-1e9, 1e9)),
        "similarity": draw(st.none() | st.floats(-1, 1)),
        "watermark": draw(st.none() | fractions),
        "nsfw": draw(st.none() | fractions),
        "group": draw(words),
        "synthesis": draw(st.none() | syntheses),
    }


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A record that can become a sample: with image and caption, and any of the rest."""
    alt_text, caption, image = draw(st.none() | texts), draw(captions), draw(pictures())
    original = draw(st.none() | st.binary(max_size=20))
    return Record(
        key=draw(keys),
        source=draw(texts),
        row=draw(st.integers(0, 2**62)),
        alt_text=alt_text,
        annotations=tuple(draw(st.lists(annotations(alt_text), max_size=2))),
        original=original,
        sha256=None if original is None else hashlib.sha256(original).hexdigest(),
        original_width=image.width * 2,
        original_height=image.height * 2,
        image=image,
        caption=caption,
        subjects=draw(st.none() | st.lists(subjects(caption, image), max_size=3).map(tuple)),
        dropped_subjects=tuple(draw(st.lists(dropped_subjects, max_size=2))),
        controls=draw(controls(image)),
        faces=draw(st.none() | st.lists(faces(image), max_size=2).map(tuple)),
        regions=draw(st.none() | st.lists(regions(image), max_size=2).map(tuple)),
        scores=tuple(draw(st.lists(scores, max_size=2))),
        features=tuple(draw(st.lists(features, max_size=2, unique_by=lambda feature: feature.name))),
        prompt=draw(st.none() | prompts()),
        steps=tuple(draw(st.lists(step_uses, max_size=2))),
        **_said(draw),
    )


verdicts = st.builds(
    Verdict,
    kind=st.sampled_from(["dropped", "failed", "fatal"]),
    node=texts,
    reason=texts,
    message=texts,
    thumbnail=st.none() | st.binary(max_size=20),
)

rows = st.builds(Row, record=records(), verdict=st.none() | verdicts)
"""A record on its way, with a verdict or without."""
