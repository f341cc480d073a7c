"""Views: parts of the photographs, each with a caption that is true of it and its phrases' boxes."""

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from PIL import Image

from pipeline.demo.photos import Photo, PixelBox

VIEWS_PER_CAPTION = 4
TRIES = 500
"""Random windows that are looked at before a view is given up."""

LEAST_SIDE = 128
"""Pixels of the photograph that a view has at least, across and down."""
WIDEST_ASPECT = 2.0
"""Largest ratio of a view's sides."""
LEAST_VISIBLE = 0.7
"""Share of its box that must lie inside for a view to name something."""
LEAST_AREA = 0.06
"""Share of a view that the largest thing it names must take."""
LARGEST_OVERLAP = 0.8
"""Intersection over union of two views of one photograph."""

LONG_SIDES = (448, 512, 640, 768)
LARGEST_SCALE = 3.0

_PHRASE = re.compile(r"\[(?P<words>[^]]+)]\((?P<names>[^)]+)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Phrase:
    """Words of a caption and where a view shows them.

    Attributes:
        start: First character in the caption.
        end: The character after the last.
        box: Left, top, right, bottom as fractions of the view's width and height.
    """

    start: int
    end: int
    box: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A part of a photograph at some size.

    Attributes:
        photo: The photograph.
        window: The part, in pixels of the photograph.
        width: Pixels across, once resized.
        height: Pixels down, once resized.
        caption: Plain text.
        phrases: What the caption names; a phrase with two boxes stands here twice.
    """

    photo: Photo
    window: PixelBox
    width: int
    height: int
    caption: str
    phrases: tuple[Phrase, ...]

    def draw(self) -> Image.Image:
        """Its pixels, gray or RGB."""
        return self.photo.open().resize((self.width, self.height), Image.Resampling.LANCZOS, self.window)


def views_of(photo: Photo) -> Iterator[View]:
    """The whole photograph, then parts that show what its captions name, no two nearly the same."""
    size = photo.open().size
    taken: list[PixelBox] = [(0, 0, *size)]
    yield make_view(photo, photo.captions[0], taken[0], max(size))
    for caption in photo.captions:
        for number in range(VIEWS_PER_CAPTION):
            rng = random.Random(f"{photo.name} {caption} {number}")
            window = _find_window(size, _boxes(photo, caption), taken, rng)
            if window:
                taken.append(window)
                yield make_view(photo, caption, window, rng.choice(LONG_SIDES))


def make_view(photo: Photo, caption: str, window: PixelBox, long_side: int) -> View:
    """A view of ``window`` at ``long_side`` pixels, or less where that would enlarge it too much.

    Args:
        photo: The photograph.
        caption: One of its captions, with its marks; the window shows all that it names.
        window: The part to show.
        long_side: Pixels of the longer side.
    """
    across, down = window[2] - window[0], window[3] - window[1]
    scale = min(long_side / max(across, down), LARGEST_SCALE)
    text, phrases = _read_caption(photo, caption, window)
    size = {"width": round(across * scale), "height": round(down * scale)}
    return View(photo=photo, window=window, caption=text, phrases=phrases, **size)


def _read_caption(photo: Photo, caption: str, window: PixelBox) -> tuple[str, tuple[Phrase, ...]]:
    text, phrases, done = "", [], 0
    for mark in _PHRASE.finditer(caption):
        text += caption[done : mark.start()]
        start = len(text)
        text += mark["words"]
        done = mark.end()
        for box in _boxes(photo, mark[0]):
            phrases.append(Phrase(start=start, end=len(text), box=_fractions(box, window)))
    return text + caption[done:], tuple(phrases)


def _boxes(photo: Photo, caption: str) -> list[PixelBox]:
    """The boxes of everything a caption names."""
    return [photo.boxes[name] for mark in _PHRASE.finditer(caption) for name in mark["names"].split(", ")]


def _fractions(box: PixelBox, window: PixelBox) -> tuple[float, float, float, float]:
    """The part of a box inside a window, as fractions of the window."""
    x0, y0, x1, y1 = _cut(box, window)
    left, top, right, bottom = window
    across, down = right - left, bottom - top
    return (x0 - left) / across, (y0 - top) / down, (x1 - left) / across, (y1 - top) / down


def _find_window(
    size: tuple[int, int], boxes: Sequence[PixelBox], taken: Sequence[PixelBox], rng: random.Random
) -> PixelBox | None:
    """The first random window that shows ``boxes`` well and is not nearly a ``taken`` one."""
    for _ in range(TRIES):
        window = _random_window(size, rng)
        if _shows(window, boxes) and all(_overlap(window, other) <= LARGEST_OVERLAP for other in taken):
            return window
    return None


def _random_window(size: tuple[int, int], rng: random.Random) -> PixelBox:
    """A window of random size, aspect and place; its aspect is bounded before it is cut to the photograph."""
    limit = math.log(WIDEST_ASPECT)
    height = rng.randint(LEAST_SIDE, size[1])
    width = round(height * math.exp(rng.uniform(-limit, limit)))
    width = min(max(width, LEAST_SIDE), size[0])
    left, top = rng.randint(0, size[0] - width), rng.randint(0, size[1] - height)
    return left, top, left + width, top + height


def _shows(window: PixelBox, boxes: Sequence[PixelBox]) -> bool:
    shown = [_area(_cut(box, window)) for box in boxes]
    visible = all(part >= LEAST_VISIBLE * _area(box) for part, box in zip(shown, boxes, strict=True))
    return visible and max(shown) >= LEAST_AREA * _area(window)


def _cut(box: PixelBox, window: PixelBox) -> PixelBox:
    """Their intersection; of no area where they do not meet."""
    return max(box[0], window[0]), max(box[1], window[1]), min(box[2], window[2]), min(box[3], window[3])


def _area(box: PixelBox) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def _overlap(one: PixelBox, other: PixelBox) -> float:
    """Intersection over union."""
    shared = _area(_cut(one, other))
    return shared / (_area(one) + _area(other) - shared)
