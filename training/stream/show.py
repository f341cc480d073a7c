"""The contact sheet: batches as a trainer sees them, on one page that asks the network for nothing."""

import base64
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from manifests.prompt import TextSegment
from training.stream.collate import Batch, Packed
from training.stream.geometry import Bools, Pixels
from training.stream.prompts.base import Prompt, Reference
from training.stream.stream import PromptStream

_HERE = Path(__file__).parent
_COLOURS = ("#e4572e", "#2e86ab", "#3fa34d", "#b05cc8", "#e0a100", "#00a39a", "#d6337c", "#6b7fd7")
"""Of a sample's references, in their order: as far apart as eight can be on light and dark."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a prompt: text, or the reference of this number in the sample."""

    text: str = ""
    reference: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceView:
    """A reference as the page shows it; ``picture`` is empty where features stand for it."""

    name: str
    role: str
    phrase: str
    colour: str
    picture: str
    size: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleView:
    """A sample as the page shows it: pictures are data URIs."""

    key: str
    target: str
    pieces: tuple[Piece, ...]
    caption: str
    references: tuple[ReferenceView, ...]
    controls: dict[str, str]
    features: tuple[str, ...]
    drops: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A batch as the page shows it."""

    step: int
    epoch: int
    ratio: float
    size: tuple[int, int]
    samples: tuple[SampleView, ...]


def write_sheet(stream: PromptStream, batches: int, out: Path) -> Path:
    """Write the next batches of a stream to a page, and say where it is.

    Args:
        stream: Read from where it stands.
        batches: How many.
        out: The HTML file.

    Raises:
        DatasetError: If the data can't be streamed.
        OSError: If the page can't be written.
    """
    views = [view_batch(batch) for batch in itertools.islice(stream, batches)]
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("sheet.html").render(
        batches=views,
        settings=stream.settings,
        folders=[dataset.url for dataset in stream.datasets],
        damage=stream.damage(),
        samples=sum(len(view.samples) for view in views),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(page)
    return out


def view_batch(batch: Batch) -> BatchView:
    """A batch made ready for the page."""
    place = batch.place
    samples = tuple(_view_sample(batch, row) for row in range(len(batch)))
    return BatchView(step=place.step, epoch=place.epoch, ratio=place.ratio, size=place.size, samples=samples)


def _view_sample(batch: Batch, row: int) -> SampleView:
    prompt = batch.prompts[row]
    pixels, masks = dict(_of_sample(batch.references, row)), dict(_of_sample(batch.masks, row))
    controls = {kind: dict(_of_sample(pack, row)) for kind, pack in batch.controls.items()}
    return SampleView(
        key=batch.keys[row],
        target=data_uri(outline(batch.images[row], masks)),
        pieces=tuple(_pieces(prompt)),
        caption=prompt.caption,
        references=tuple(
            _view_reference(reference, prompt.caption, number, pixels.get(number))
            for number, reference in enumerate(prompt.references)
        ),
        controls={kind: data_uri(found[0]) for kind, found in controls.items() if found},
        features=tuple(_features(batch, row)),
        drops=_drops(prompt),
    )


def _of_sample(packed: Packed[Any], row: int) -> Iterator[tuple[int, Any]]:
    """A sample's pictures, each with its reference's number."""
    views = packed.views()
    for place in np.flatnonzero(packed.sample == row).tolist():
        yield int(packed.reference[place]), views[place]


def _pieces(prompt: Prompt) -> Iterator[Piece]:
    numbers = itertools.count()
    for segment in prompt.interleaved.segments:
        if isinstance(segment, TextSegment):
            yield Piece(segment.text)
        else:
            yield Piece(segment.phrase if segment.insertion == "feature" else "", next(numbers))


def _view_reference(reference: Reference, caption: str, number: int, pixels: Pixels | None) -> ReferenceView:
    size = "" if pixels is None else f"{pixels.shape[1]} × {pixels.shape[0]} px"
    return ReferenceView(
        name=reference.name,
        role=reference.role,
        phrase=reference.span.of(caption) if reference.span else "",
        colour=_COLOURS[number % len(_COLOURS)],
        picture="" if pixels is None else data_uri(pixels),
        size=size,
        notes=_notes(reference),
    )


def _notes(reference: Reference) -> tuple[str, ...]:
    how = reference.augmentation
    if how is None:
        return ()
    left, top, right, bottom = how.crop
    share = (right - left) * (bottom - top)
    notes = {
        f"cropped to {share:.0%}": share < 1,
        "flipped": how.is_flipped,
        "grey": how.is_grey,
        f"noise {how.noise:.2f}": how.noise > 0,
    }
    return tuple(note for note, holds in notes.items() if holds)


def _features(batch: Batch, row: int) -> Iterator[str]:
    for name, values in batch.features.items():
        shapes = dict(zip(values.sample.tolist(), values.shapes, strict=True)) if isinstance(values, Packed) else {}
        shape = shapes.get(row) if isinstance(values, Packed) else values.shape[1:]
        yield f"{name}: none" if shape is None else f"{name} {'×'.join(map(str, shape)) or 'scalar'}"


def _drops(prompt: Prompt) -> tuple[str, ...]:
    flags = {
        "text": prompt.is_text_dropped,
        "images": prompt.are_images_dropped,
        "control": prompt.is_control_dropped,
    }
    return tuple(name for name, is_dropped in flags.items() if is_dropped)


def outline(image: Pixels, masks: dict[int, Bools]) -> Pixels:
    """A copy of a target with the outlines of masks, each in the colour of its reference."""
    drawn = image.copy()
    width = max(2, min(image.shape[:2]) // 160)
    for number, mask in masks.items():
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, contours, -1, (255, 255, 255), width + 2)
        cv2.drawContours(drawn, contours, -1, _rgb(_COLOURS[number % len(_COLOURS)]), width)
    return drawn


def _rgb(colour: str) -> Sequence[int]:
    return tuple(bytes.fromhex(colour.removeprefix("#")))


def data_uri(pixels: Pixels, quality: int = 88) -> str:
    """A picture as a JPEG in a data URI."""
    rgb = np.ascontiguousarray(pixels if pixels.ndim == 3 and pixels.shape[2] == 3 else _as_rgb(pixels))
    return f"data:image/jpeg;base64,{base64.b64encode(simplejpeg.encode_jpeg(rgb, quality)).decode()}"


def _as_rgb(grey: Pixels) -> Pixels:
    return np.repeat(grey.reshape(*grey.shape[:2], 1), 3, axis=2)
