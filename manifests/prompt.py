"""The interleaved prompt: text and image segments in reading order."""

import json
import re
from typing import Any, Literal, TypeAlias, get_args

from msgspec import Struct

Insertion: TypeAlias = Literal["replace", "before", "feature", "side"]
"""How an image enters the text.

``replace``: the image stands instead of its words (UNIMO-G). ``before``: the image precedes its words, which stay
(MUMU). ``feature``: the words stay and the image overwrites their text features (λ-ECLIPSE). ``side``: the image is a
condition beside the text and not part of its sequence (EMMA).
"""

_INSERTIONS = get_args(Insertion)
_MEMBER = re.compile(r"image|canny|depth|sketch|(?:subject|face|region)(?:0|[1-9][0-9]*)")


class TextSegment(Struct, frozen=True, gc=False):
    """A stretch of plain text; never empty."""

    text: str

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("a text segment needs at least one character")


class ImageSegment(Struct, frozen=True, gc=False):
    """An image in the prompt.

    Attributes:
        member: What it points at, by its name in the shard: ``subject0`` …, ``face0`` …, ``region0`` …, a control
            image (``canny``, ``depth``, ``sketch``) or ``image`` for the whole picture.
        phrase: The words of the caption it goes with; empty for all but subjects.
        insertion: How it enters the text.
    """

    member: str
    phrase: str
    insertion: Insertion

    def __post_init__(self) -> None:
        if not _MEMBER.fullmatch(self.member):
            raise ValueError(
                "an image segment points at subjectN, faceN, regionN, canny, depth, sketch or image, "
                f"got {self.member!r}"
            )
        if self.insertion not in _INSERTIONS:
            raise ValueError(f"insertion must be one of {_INSERTIONS}, got {self.insertion!r}")

    @property
    def caption_text(self) -> str:
        """What the segment contributes to the caption: its phrase where it stands for the words, else nothing."""
        return self.phrase if self.insertion in ("replace", "feature") else ""

    @property
    def marker(self) -> str:
        """The segment in plain text: ``<subject0>``; with its words where they stay, ``<subject0: dog>``."""
        return f"<{self.member}: {self.phrase}>" if self.insertion == "feature" else f"<{self.member}>"


Segment: TypeAlias = TextSegment | ImageSegment


class InterleavedPrompt(Struct, frozen=True, gc=False):
    """Segments in reading order; adjacent text is one segment, so equal prompts have equal segments.

    The segments' ``caption_text`` concatenates to the caption.
    """

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        for left, right in zip(self.segments, self.segments[1:], strict=False):
            if isinstance(left, TextSegment) and isinstance(right, TextSegment):
                raise ValueError(f"adjacent text segments must be one: {left.text!r} + {right.text!r}")

    @property
    def caption(self) -> str:
        """The plain caption this prompt was made from."""
        return "".join(s.text if isinstance(s, TextSegment) else s.caption_text for s in self.segments)

    @property
    def images(self) -> tuple[ImageSegment, ...]:
        """The image segments in reading order."""
        return tuple(s for s in self.segments if isinstance(s, ImageSegment))

    def render(self) -> str:
        """The prompt as one line of text with markers where images stand, e.g. ``a <subject0> on the beach``."""
        pieces = []
        for segment in self.segments:
            if isinstance(segment, TextSegment):
                pieces.append(segment.text)
            else:
                pieces.append(segment.marker + " " * (segment.insertion in ("before", "side")))
        return "".join(pieces)

    def to_plain(self) -> list[dict[str, str]]:
        """The segments as JSON values: ``{"text": …}`` or ``{"image": member, "phrase": …, "insertion": …}``."""
        return [
            {"text": s.text}
            if isinstance(s, TextSegment)
            else {"image": s.member, "phrase": s.phrase, "insertion": s.insertion}
            for s in self.segments
        ]

    @classmethod
    def from_plain(cls, plain: list[dict[str, Any]]) -> "InterleavedPrompt":
        """The prompt that :meth:`to_plain` wrote.

        Raises:
            ValueError: If it is no list, a segment is neither text nor image, or breaks a rule of this module.
        """
        if not isinstance(plain, list):
            raise ValueError(f"a prompt is a list of segments, got {plain!r}")
        return cls(tuple(_parse_segment(part) for part in plain))

    def to_json(self) -> str:
        """Canonical JSON: equal prompts give equal strings."""
        return json.dumps(self.to_plain(), ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "InterleavedPrompt":
        """The prompt that :meth:`to_json` wrote. Raises ``ValueError`` as :meth:`from_plain` does."""
        return cls.from_plain(json.loads(text))


def _parse_segment(part: dict[str, Any]) -> Segment:
    match part:
        case {"text": str(text), **rest} if not rest:
            return TextSegment(text)
        case {"image": str(member), "phrase": str(phrase), "insertion": insertion, **rest} if not rest:
            return ImageSegment(member, phrase, insertion)
        case _:
            raise ValueError(f'a segment is {{"text"}} or {{"image", "phrase", "insertion"}}, got {part!r}')
