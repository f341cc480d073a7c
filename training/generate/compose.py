"""From a prompt as people write it to the prompt that a family reads, as training made them of captions."""

import re
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol, runtime_checkable

from manifests.prompt import ImageSegment, Insertion, InterleavedPrompt, Segment, TextSegment
from manifests.record import Span
from training.generate.template import Slot, Template, slots
from training.stream.prompts.base import Colour, Prompt, Reference

_WORD = re.compile(r"\s*(?P<word>\w+(?:[-'’]+(?!s\b)\w+)*)")
"""Hyphens and apostrophes are of the word, a genitive's ``'s`` is not."""


_NO_NOUN = re.compile(
    r"a|an|the|this|that|these|those|my|your|his|her|its|our|their|and|or|but|nor|so|than|as|if|while|in|on|at|"
    r"by|to|of|off|for|from|with|without|under|over|above|below|behind|beside|between|near|into|onto|inside|"
    r"outside|through|across|around|along|against|after|before|during|next|up|down|out|is|are|was|were|be|been|"
    r"being|has|have|had|do|does|did|will|would|can|could|should|may|might|must|not|no|who|which|whose|where|"
    r"when|how|he|she|it|they|we|i|you|him|them|us|me|there|here",
    re.IGNORECASE,
)
"""Words that name nothing a picture shows."""


@runtime_checkable
class Look(Protocol):
    """How a family is shown reference images: the part of a prompt builder that generation shares."""

    @property
    def side(self) -> int | None:
        """Of their square, pixels; ``None``: they stay as they are."""

    @property
    def fill(self) -> Colour:
        """Around an image that is not square, and behind one that is cut out."""


def compose(template: Template, insertion: Insertion, look: Look | None) -> Prompt:
    """The prompt of a template, for a family whose images enter like this.

    ``replace``: the image stands in its slot, and words named there give way to it. ``feature``, ``before``: named
    words stay; a slot without takes the word after it. ``side``: named words stay, and all images stand before the
    text.

    Args:
        template: What to draw.
        insertion: The family's.
        look: How references are shown; ``None``: the family has none.

    Returns:
        The prompt; its references are in the order of :func:`training.generate.template.slots`.

    Raises:
        ValueError: If a slot has neither words nor a word after it, and needs them; or if there may be no slot.
    """
    parts = _settled(template, insertion)
    caption = "".join(_words(part) for part in parts)
    segments = _beside(parts, caption) if insertion == "side" else _woven(parts, insertion)
    return Prompt(
        interleaved=InterleavedPrompt(tuple(_joined(segments))),
        caption=caption,
        references=tuple(_references(parts, insertion, look)) if look else _none(parts),
    )


def doubts(template: Template, insertion: Insertion) -> Iterator[str]:
    """What to tell of slots whose image overwrites the word after it, where that word names nothing."""
    for slot, settled in zip(_slots(template), _slots(_settled(template, insertion)), strict=True):
        if insertion == "feature" and not slot.words and _NO_NOUN.fullmatch(settled.words):
            yield (
                f"the image of {{{slot.image}}} goes with the word {settled.words!r} behind it, which names nothing "
                f"that it shows; name what it does, as in {{{slot.image}:dog}}"
            )


def _slots(parts: Sequence[str | Slot]) -> list[Slot]:
    return [part for part in parts if isinstance(part, Slot)]


def _none(parts: Sequence[str | Slot]) -> tuple[Reference, ...]:
    if slots(parts):
        raise ValueError("this run learnt prompts of text alone: take the slots out, and give it no image")
    return ()


def _settled(template: Template, insertion: Insertion) -> Sequence[str | Slot]:
    """The template after its slots have taken what they need of the text behind them."""
    parts: list[str | Slot] = [*template, ""]
    for place, part in enumerate(parts):
        if isinstance(part, Slot) and not part.words and insertion != "replace":
            take = _close if insertion == "side" else _take_word
            parts[place : place + 2] = take(part, parts[place + 1])
    return parts


def _close(slot: Slot, after: str | Slot) -> tuple[Slot, str | Slot]:
    """An image beside the text leaves no gap in it."""
    return slot, after.lstrip() if isinstance(after, str) else after


def _take_word(slot: Slot, after: str | Slot) -> tuple[Slot, str]:
    match = _WORD.match(after) if isinstance(after, str) else None
    if match is None:
        raise ValueError(
            f"an image of this family goes with words, and the slot {{{slot.image}}} has no word behind it: "
            f"name some, as in {{{slot.image}:dog}}"
        )
    return Slot(slot.image, match["word"]), match.string[match.end() :]


def _words(part: str | Slot) -> str:
    return part if isinstance(part, str) else part.words


def _name(slot: Slot) -> str:
    return f"subject{slot.image}"


def _woven(parts: Sequence[str | Slot], insertion: Insertion) -> Iterator[str | ImageSegment]:
    for part in parts:
        if isinstance(part, Slot):
            yield ImageSegment(_name(part), part.words, insertion)
        if isinstance(part, str) or insertion == "before":
            yield _words(part)


def _beside(parts: Sequence[str | Slot], caption: str) -> Iterator[str | ImageSegment]:
    for part in parts:
        if isinstance(part, Slot):
            yield ImageSegment(_name(part), "", "side")
    yield caption


def _joined(pieces: Iterator[str | ImageSegment]) -> Iterator[Segment]:
    """Segments, the texts between two images as one."""
    for is_text, group in groupby((piece for piece in pieces if piece), key=lambda piece: isinstance(piece, str)):
        if is_text:
            yield TextSegment("".join(str(piece) for piece in group))
        else:
            yield from (piece for piece in group if isinstance(piece, ImageSegment))


def _references(parts: Sequence[str | Slot], insertion: Insertion, look: Look) -> Iterator[Reference]:
    start = 0
    for part in parts:
        end = start + len(_words(part))
        if isinstance(part, Slot):
            name = _name(part)
            span = Span(start=start, end=end) if part.words and insertion != "side" else None
            yield Reference(name=name, role="subject", member=name, span=span, side=look.side, fill=look.fill)
        start = end
