"""The prompt as people write it, ``a {0:dog} on the beach``: text with a slot for every image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

_TOKEN = re.compile(r"\{\{|\}\}|\{(?P<slot>[^{}]*)\}|[{}]")
_SLOT = re.compile(r"(?P<image>0|[1-9][0-9]*)(?P<named>:(?P<words>.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of an image in a prompt.

    Attributes:
        image: Its number among the images given, from 0.
        words: The words that it goes with; empty if none are named.
    """

    image: int
    words: str = ""


Template: TypeAlias = "tuple[str | Slot, ...]"
"""Text and slots in reading order; no text is empty, and none follows another."""


def parse_template(text: str) -> Template:
    """The template of a prompt.

    ``{0}`` is the place of image 0, ``{0:teddy bear}`` also names its words, ``{{`` and ``}}`` are braces.

    Raises:
        ValueError: If a brace stands alone, a slot is no number, names no words after its colon, or stands twice; or if
            it is no text in UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"the prompt is no text in UTF-8 at character {error.start}: {text!r}; type it anew") from None
    parts: list[str | Slot] = []
    done = 0
    for token in _TOKEN.finditer(text):
        _write(parts, text[done : token.start()])
        done = token.end()
        if token["slot"] is not None:
            parts.append(_slot(token["slot"]))
        elif token[0] in ("{{", "}}"):
            _write(parts, token[0][0])
        else:
            raise ValueError(f"the prompt has a single {token[0]!r} at character {token.start()}; write it twice")
    _write(parts, text[done:])
    _check_once(parts)
    return tuple(parts)


def _write(parts: list[str | Slot], text: str) -> None:
    if parts and isinstance(parts[-1], str):
        parts[-1] += text
    elif text:
        parts.append(text)


def _slot(text: str) -> Slot:
    match = _SLOT.fullmatch(text)
    if match is None:
        raise ValueError(
            f"{{{text}}} is no slot: write {{0}} or {{0:dog}} with the number of an image, counted from 0, "
            f"or {{{{{text}}}}} for the braces themselves"
        )
    words = (match["words"] or "").strip()
    if match["named"] and not words:
        raise ValueError(f"{{{text}}} names no words after its colon; write {{{match['image']}}} or {{0:dog}}")
    return Slot(int(match["image"]), words)


def _check_once(parts: Sequence[str | Slot]) -> None:
    seen: set[int] = set()
    for number in slots(parts):
        if number in seen:
            raise ValueError(
                f"the slot {{{number}}} stands twice in the prompt; give its image twice, and number them apart"
            )
        seen.add(number)


def format_template(template: Template) -> str:
    """The prompt that :func:`parse_template` reads as this template."""
    return "".join(_escape(part) if isinstance(part, str) else _format_slot(part) for part in template)


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _format_slot(slot: Slot) -> str:
    return f"{{{slot.image}:{slot.words}}}" if slot.words else f"{{{slot.image}}}"


def slots(template: Sequence[str | Slot]) -> tuple[int, ...]:
    """The numbers of a template's images in reading order."""
    return tuple(part.image for part in template if isinstance(part, Slot))


def check_images(template: Template, images: Sequence[str]) -> None:
    """Check that a template uses just these images, each by its name here.

    Raises:
        ValueError: If it has more slots, leaves an image out, or has neither text nor image.
    """
    used = set(slots(template))
    for number in sorted(used):
        if number >= len(images):
            raise ValueError(
                f"the prompt has the slot {{{number}}}, but {_count(len(images))}; "
                "give one more, or take the slot out (numbers count from 0)"
            )
    for number, name in enumerate(images):
        if number not in used:
            raise ValueError(f"the prompt does not use image {number}, {name}: put {{{number}}} where it belongs")
    if not used and not "".join(str(part) for part in template).strip():
        raise ValueError("the prompt is empty: say what the picture shows")


def _count(images: int) -> str:
    return {0: "no image is given", 1: "only 1 image is given"}.get(images, f"only {images} images are given")
