"""Records with drawn pictures, and their examples: what the engine would have written, without running it."""

from dataclasses import replace
from typing import Literal

import numpy as np

from manifests.record import Box, Control, Face, Feature, ModelUse, Picture, Record, Region, Span, Subject
from manifests.shard import record_sample
from stages.features import content_hash, pack
from stages.masks import encode_mask, mask_png
from stages.pixels import Pixels, write_jpeg, write_png
from training.stream.buckets import RATIOS
from training.stream.example import Example, parse_example
from training.stream.keyed import Draws

CAPTION = "a man with a red hat walks his small dog past a blue car and an old tree"
PHRASES = (("man", "man"), ("red hat", "hat"), ("small dog", "dog"), ("blue car", "car"), ("old tree", "tree"))
MODEL = ModelUse(name="drawn", revision="1")


def smooth(rng: np.random.Generator, width: int, height: int) -> Pixels:
    """A picture as smooth as a photo: JPEG keeps it nearly as it is."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / rng.uniform(9, 30) + rng.uniform(0, 6)) + np.cos(y / rng.uniform(9, 30)) for _ in range(3)]
    return (np.stack(waves, axis=-1) * 50 + 127).astype(np.uint8)


def draws(key: str = "sample", seed: int = 0, epoch: int = 0) -> Draws:
    return Draws(seed, epoch, key)


def draw_record(key: str = "sample", width: int = 96, height: int = 64, subjects: int = 5) -> Record:
    """A record with ``subjects`` boxes side by side, the first of which is a person, and one of everything else."""
    rng = np.random.default_rng(len(key) + width * height)
    step = width / max(subjects, 1)
    boxes = [Box(x0=n * step, y0=height * 0.25, x1=(n + 1) * step, y1=height * 0.75) for n in range(subjects)]
    image = write_jpeg(smooth(rng, width, height))
    return Record(
        key=key,
        source="drawn",
        row=0,
        alt_text="another text",
        image=image,
        caption=CAPTION,
        subjects=tuple(_subject(rng, n, box, width, height) for n, box in enumerate(boxes)),
        controls=(_control(rng, "canny", width, height), _control(rng, "depth", width, height)),
        faces=(Face(box=boxes[0] if boxes else Box(x0=0, y0=0, x1=9, y1=9), score=0.9, crop=_crop(rng)),),
        regions=(
            Region(kind="object", box=Box(x0=0, y0=0, x1=width, y1=height), mask=_half(width, height), crop=_crop(rng)),
            Region(kind="random", box=Box(x0=0, y0=0, x1=width / 2, y1=height / 2), crop=_crop(rng)),
        ),
    )


def _subject(rng: np.random.Generator, number: int, box: Box, width: int, height: int) -> Subject:
    phrase, head = PHRASES[number]
    start = CAPTION.index(phrase)
    inside = np.zeros((height, width), bool)
    inside[int(box.y0) : int(box.y1), int(box.x0) : int(box.x1)] = True
    return Subject(
        phrase=phrase,
        span=Span(start=start, end=start + len(phrase)),
        head=head,
        head_span=Span(start=start + phrase.index(head), end=start + phrase.index(head) + len(head)),
        box=box,
        score=0.5,
        mask=encode_mask(inside),
        crop=_crop(rng),
        head_box=box if number == 0 else None,
        head_crop=_crop(rng) if number == 0 else None,
    )


def _crop(rng: np.random.Generator) -> Picture:
    return write_jpeg(smooth(rng, int(rng.integers(20, 60)), int(rng.integers(20, 60))))


def _control(rng: np.random.Generator, kind: Literal["canny", "depth", "sketch"], width: int, height: int) -> Control:
    return Control(kind=kind, picture=write_png(smooth(rng, width, height)[:, :, 0]))


def _half(width: int, height: int):
    inside = np.zeros((height, width), bool)
    inside[:, : width // 2] = True
    return encode_mask(inside)


def with_features(record: Record, storage: Literal["float32", "float16", "bfloat16"] = "float16") -> Record:
    """The record with all features that λ-ECLIPSE wants, of a network with four channels."""
    assert record.caption is not None and record.subjects is not None
    stems = ["image", "canny", *(f"subject{n}" for n in range(len(record.subjects)))]
    shapes = {f"{stem}_bigg_vector": (4,) for stem in stems}
    shapes |= {"caption_bigg_states": (7, 4), "caption_bigg_pooled": (4,)}
    given = _given(record)
    features = (_feature(name, given[name.partition("_")[0]], shape, storage) for name, shape in shapes.items())
    return replace(record, features=tuple(features))


def _given(record: Record) -> dict[str, str]:
    """Hashes of what a network is given, by what the features begin with."""
    assert record.caption is not None and record.image is not None and record.subjects is not None
    crops = {f"subject{number}": subject.crop for number, subject in enumerate(record.subjects)}
    pictures = {"image": record.image, **crops, **{control.kind: control.picture for control in record.controls}}
    hashes = {name: content_hash(picture) for name, picture in pictures.items() if picture is not None}
    return {"caption": content_hash(record.caption), **hashes}


def _feature(
    name: str, content: str, shape: tuple[int, ...], storage: Literal["float32", "float16", "bfloat16"]
) -> Feature:
    values = np.random.default_rng(len(name)).normal(size=shape).astype(np.float32)
    return pack(name, content, MODEL, values, storage)


def members_of(record: Record) -> dict[str, bytes]:
    return dict(record_sample(record, mask_png, RATIOS).members)


def example_of(record: Record) -> Example:
    assert record.image is not None
    return parse_example(record.key, members_of(record), record.image.width, record.image.height)
